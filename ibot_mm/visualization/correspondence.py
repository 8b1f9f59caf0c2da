# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patches of one picture found again in another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from torch import Tensor

from ibot_mm.functional.correspondence import (
    match_patches,
    matching_accuracy,
    overlapping,
    patch_centers,
    strongest_patches,
    true_matches,
)

from .network import (
    PictureNetwork,
    PictureTokens,
    check_layer,
    figure_title,
    read_attention,
    read_tokens,
)
from .picture import Picture
from .style import COLORS, RIGHT, TEXT, WRONG, picture_grid, show_picture

Views = tuple[Picture, Picture, Tensor]  # two views and their corners (2, 4)


@dataclass(frozen=True)
class Matches:
    """What is found of the first picture's N patches in the second.

    Args:
        pair: Tokens of both.
        match: Place in the second, int64 (N,).
        similarity: Dot product of the tokens, (N,).
        truth: Of views: the place that shows the same, int64 (N,). Defaults to None.
        overlap: Of views: True at patches that the second shows too, (N,). Defaults to None.
    """

    pair: tuple[PictureTokens, PictureTokens]
    match: Tensor
    similarity: Tensor
    truth: Tensor | None = None
    overlap: Tensor | None = None

    def accuracy(self, radius: int = 0) -> float:
        """Share of right matches among the patches of the overlap, NaN without any.

        Args:
            radius: Patches by which row and column may each be wrong. Defaults to 0.

        Raises:
            ValueError: If these are not views of one image.
        """
        if self.truth is None or self.overlap is None:
            raise ValueError('accuracy is known of two views of one image only')
        width = self.pair[1].patches.shape[1]
        return float(matching_accuracy(self.match, self.truth, self.overlap, width, radius))


def find_matches(
    network: PictureNetwork,
    first: Picture,
    second: Picture,
    corners: Tensor | None = None,
    layer: int | None = None,
) -> Matches:
    """Match the patches of two pictures.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        first: Of any size; views must be whole patches.
        second: Of any size.
        corners: Of two views of one image, (2, 4), see :mod:`ibot_mm.functional.correspondence`.
            Defaults to None, two images.
        layer: Counted from 1. Defaults to None, the last.

    Raises:
        ValueError: If views are not whole patches.
    """
    one, two = read_tokens(network, [first, second], layer)
    match, similarity = match_patches(*(t.patches.flatten(0, 1).double() for t in (one, two)))
    if corners is None:
        return Matches((one, two), match, similarity)
    for tokens, view in ((one, first), (two, second)):
        if tokens.picture.size != view.size:
            raise ValueError(
                f'{view.name} of {view.size[0]} x {view.size[1]} pixels is not whole patches, so '
                f'that its corners do not fit: --image-size {tokens.picture.size[0]} does'
            )
    centers = [
        patch_centers(of_view[None], (tokens.patches.shape[0], tokens.patches.shape[1]))
        for of_view, tokens in zip(corners.double(), (one, two))
    ]
    truth = true_matches(centers[0], centers[1])[0]
    overlap = overlapping(centers[0], centers[1])[0]
    return Matches((one, two), match, similarity, truth, overlap)


def score_views(
    network: PictureNetwork,
    views: Iterable[Views],
    radius: int = 0,
    layer: int | None = None,
    batch: int = 2,
) -> float:
    """Compute the accuracy of correspondence between views, over many images.

    As published: over the patches of the overlaps of a batch of 2, then the mean over batches.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        views: Two views and their corners, of each image, of one size.
        radius: Patches by which row and column may each be wrong. Defaults to 0.
        layer: Counted from 1. Defaults to None, the last.
        batch: Defaults to 2.

    Returns:
        Share, of batches whose views overlap; NaN without any.
    """
    shares, pending = [], []
    for first, second, corners in views:
        pending.append(find_matches(network, first, second, corners, layer))
        if len(pending) == batch:
            shares.append(_share(pending, radius))
            pending = []
    if pending:
        shares.append(_share(pending, radius))
    return float(torch.tensor(shares, dtype=torch.float64).nanmean())


def _share(found: list[Matches], radius: int) -> float:
    match, truth, overlap = (
        torch.stack([getattr(matches, name) for matches in found])
        for name in ('match', 'truth', 'overlap')
    )
    width = found[0].pair[1].patches.shape[1]
    return float(matching_accuracy(match, truth, overlap, width, radius))


def choose_patches(
    network: PictureNetwork, matches: Matches, number: int = 12, layer: int | None = None
) -> Tensor:
    """Choose the patches that a figure shows.

    Those with the highest attention of [CLS], the mean of its heads, as published, where DINO's
    ViT-B/8 gives it; of networks without [CLS] those with the highest similarity. Of views,
    patches of the overlap.

    Returns:
        Places in the first picture, int64 (K,).
    """
    backbone, first = network.backbone, matches.pair[0]
    if hasattr(backbone, 'stages') or not getattr(backbone, 'num_extra_tokens', 1):
        weights = matches.similarity - matches.similarity.min() + 1
    else:
        _, heads = next(read_attention(network, [first.picture], layer))
        weights = heads.mean(dim=0).flatten()
    if matches.overlap is not None:
        weights = weights * matches.overlap
    return strongest_patches(weights, number)


def draw_correspondence(
    network: PictureNetwork,
    pairs: Iterable[tuple[Picture, Picture] | Views],
    number: int = 12,
    layer: int | None = None,
) -> Figure:
    """Draw pairs of pictures with lines from patches of the first to their matches in the second.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        pairs: Two pictures, or two views of one image and their corners, see
            :func:`ibot_mm.picture_files.sample_views`: then lines tell right matches from wrong
            ones, and the title has the accuracy of all patches of the overlap.
        number: Lines. Defaults to 12, as published.
        layer: Counted from 1. Defaults to None, the last.

    Returns:
        A matplotlib figure, two pairs in a row.

    Raises:
        ValueError: If there are no pairs.
    """
    check_layer(network, layer)
    found = [
        find_matches(network, first, second, corners[0] if corners else None, layer)
        for first, second, *corners in pairs
    ]
    if not found:
        raise ValueError('no pairs of pictures to draw')
    groups = min(2, len(found))
    sizes = [[t.picture.size for t in matches.pair] for matches in found]
    aspects = [
        max(height / width for pair in sizes[row : row + groups] for height, width in pair)
        for row in range(0, len(found), groups)
    ]
    what = 'most similar patch in the other picture'
    if any(matches.truth is not None for matches in found):
        what += ' (blue: right, dashed orange: wrong)'
    title = figure_title(network, what, layer)
    figure, axes = picture_grid(aspects, 2 * groups, title, cell=2.6, captions=len(aspects))
    for index, matches in enumerate(found):
        row, column = divmod(index, groups)
        _draw_pair(
            figure,
            list(axes[row, 2 * column : 2 * column + 2]),
            matches,
            choose_patches(network, matches, number, layer),
        )
    return figure


def _draw_pair(figure: Figure, axes: Sequence[Axes], matches: Matches, chosen: Tensor) -> None:
    for axis, tokens in zip(axes, matches.pair):
        show_picture(axis, tokens.picture.pixels, tokens.picture.name)
    if matches.truth is not None:
        axes[1].set_title(f'{matches.accuracy():.0%} right, of all in the overlap', fontsize=TEXT)
    widths = [tokens.patches.shape[1] for tokens in matches.pair]
    for place, color in zip(chosen.tolist(), cycle(COLORS[:7])):
        target = int(matches.match[place])
        style = '-'
        if matches.truth is not None:
            right = target == int(matches.truth[place])
            color, style = (RIGHT, '-') if right else (WRONG, '--')
        ends = []
        for axis, tokens, at, width in zip(axes, matches.pair, (place, target), widths):
            rows, columns = tokens.patches.shape[:2]
            height, across = tokens.picture.size
            x, y = (at % width + 0.5) / columns * across, (at // width + 0.5) / rows * height
            axis.plot(x, y, 'o', color=color, markersize=4, markeredgecolor='white')
            ends.append((x, y))
        figure.add_artist(
            ConnectionPatch(
                ends[0], ends[1], 'data', 'data', axesA=axes[0], axesB=axes[1],
                color=color, linestyle=style, linewidth=1.2,
            )
        )  # fmt: skip
