# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Principal components of patch tokens, and foreground by the first of them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def principal_axes(tokens: Tensor, number: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the mean, the principal axes and the share of the variance along each.

    The entry of an axis with the largest magnitude is positive, so that results repeat.

    Args:
        tokens: Shape (M, D).
        number: Axes K, those of the largest variance. Defaults to 3.

    Returns:
        Mean (D,), axes (D, K) and shares (K,), in float64.

    Raises:
        ValueError: If there are too few tokens or channels for so many axes.
    """
    if min(len(tokens) - 1, tokens.shape[1]) < number:
        raise ValueError(
            f'{number} principal axes need more than {number} patches and as many channels, got '
            f'{len(tokens)} patches of {tokens.shape[1]} channels: show more or larger images'
        )
    tokens = tokens.double()
    mean = tokens.mean(dim=0)
    centered = tokens - mean
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(tokens))
    axes = vectors[:, -number:].flip(1)
    largest = axes.abs().argmax(dim=0, keepdim=True)
    shares = values.flip(0)[:number].clamp(min=0) / values.sum().clamp(min=1e-300)
    return mean, axes * axes.gather(0, largest).sign(), shares


def split_by_threshold(values: Tensor, steps: int = 256) -> float:
    """Return the threshold of Otsu: that of the largest variance between the two sides.

    Args:
        values: Any shape.
        steps: Thresholds tried, evenly spaced. Defaults to 256.
    """
    values = values.flatten().double()
    tried = torch.linspace(float(values.min()), float(values.max()), steps + 2, dtype=torch.double)
    above = values[None] > tried[1:-1, None]  # (steps, M)
    share = above.double().mean(dim=1)
    upper = (above * values).sum(dim=1) / above.sum(dim=1).clamp(min=1)
    lower = (~above * values).sum(dim=1) / (~above).sum(dim=1).clamp(min=1)
    return float(tried[1:-1][(share * (1 - share) * (upper - lower).square()).argmax()])


def find_foreground(scores: Sequence[Tensor], invert: bool = False) -> list[Tensor]:
    """Split patches of all images by one threshold of their first component.

    The sign of a component says nothing, so the side that holds less of the images' borders is
    taken for the foreground.

    Args:
        scores: First component, (h, w) of each image.
        invert: Whether to take the other side. Defaults to False.

    Returns:
        True at the foreground, (h, w) of each image.
    """
    threshold = split_by_threshold(torch.cat([values.flatten() for values in scores]))
    above = [values > threshold for values in scores]
    of_border = torch.cat([_border(mask) for mask in above]).double().mean()
    of_all = torch.cat([mask.flatten() for mask in above]).double().mean()
    return [mask == bool((of_border <= of_all) != invert) for mask in above]


def _border(mask: Tensor) -> Tensor:
    return torch.cat([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def to_colors(components: Sequence[Tensor], cut: float = 0.01) -> list[Tensor]:
    """Spread three components over the colors from 0 to 1, by one scale for all images.

    Args:
        components: Shape (M, 3) of each image.
        cut: Share of the values at both ends that gets the end's color. Defaults to 0.01.
    """
    together = torch.cat(list(components)).double()
    limits = torch.tensor([cut, 1 - cut], dtype=torch.double)
    low, high = torch.quantile(_at_most(together), limits, dim=0)
    return [((c - low) / (high - low).clamp(min=1e-12)).clamp(0, 1) for c in components]


def _at_most(values: Tensor, number: int = 1_000_000) -> Tensor:
    """Take evenly spaced rows: torch.quantile refuses more than 16 million values."""
    return values[:: -(-len(values) // number)]
