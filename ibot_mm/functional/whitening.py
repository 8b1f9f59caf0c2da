# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A start of the patch embedding by which all directions of patches count alike."""

import torch
from torch import Tensor


def whitening_embedding(
    patches: Tensor, num_channels: int, eps: float = 0.01, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Compute a linear layer whose outputs, over patches, have mean 0 and variance 1 on average.

    Neighboring pixels are nearly equal, so that most of the variance of a patch is its brightness,
    and edges are lost in what a layer of random weights makes of it. Here patches are projected
    on their principal components, these divided by their deviation, and turned at random.

    Args:
        patches: Flat pixels, shape (N, P).
        num_channels: Outputs D. If D < P, the D largest components are kept.
        eps: Is added to the variances, in their unit: components far below it, which are noise,
            stay small. Defaults to 0.01, for normalized pixels.
        generator: Of the rotation. Defaults to None, torch's own.

    Returns:
        Weight (D, P) and bias (D,).

    Raises:
        ValueError: If there are fewer than two patches, or they are all the same.
    """
    if len(patches) < 2:
        raise ValueError(f'Whitening needs two patches or more, got {len(patches)}.')
    patches = patches.double()
    mean = patches.mean(dim=0)
    variances, directions = torch.linalg.eigh(torch.cov(patches.T))
    kept = min(num_channels, patches.shape[1])
    variances, directions = variances[-kept:].clamp(min=0), directions[:, -kept:]
    if not variances.sum() > 0:
        raise ValueError('Whitening needs patches that differ; all are the same.')
    turn = torch.linalg.qr(torch.randn(num_channels, kept, generator=generator).double())[0]
    weight = turn @ (directions / (variances + eps).sqrt()).T
    deviation = ((patches - mean) @ weight.T).square().mean().sqrt()
    weight = weight / deviation
    return weight.float(), -(weight @ mean).float()
