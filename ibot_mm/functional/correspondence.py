# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patches of one picture found again in another, and how often rightly.

Views are given by corners (top, left, bottom, right) in shares of the height and width of the
image that they were cut from; a mirrored view has its left at the right.
"""

import torch
from torch import Tensor


def match_patches(tokens1: Tensor, tokens2: Tensor) -> tuple[Tensor, Tensor]:
    """Find for each patch of the first picture the most similar one of the second.

    As published, similarity is the dot product of normed tokens, not their cosine.

    Args:
        tokens1: Patches after the final norm, shape (..., N, D).
        tokens2: Shape (..., M, D).

    Returns:
        Place of the match in the second picture, int64 (..., N), and its similarity (..., N).
    """
    similarity, match = (tokens1 @ tokens2.transpose(-1, -2)).max(dim=-1)
    return match, similarity


def patch_centers(corners: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return where the centers of a view's patches lie in the image.

    Args:
        corners: Shape (B, 4).
        grid: Patches (h, w) of the view.

    Returns:
        Shares of height and width, shape (B, h * w, 2), row by row.
    """
    first, last = corners[:, :2], corners[:, 2:]
    axes = []
    for axis, size in enumerate(grid):
        steps = (torch.arange(size, dtype=corners.dtype, device=corners.device) + 0.5) / size
        axes.append(first[:, axis, None] + steps * (last - first)[:, axis, None])
    rows, columns = axes[0][:, :, None].expand(-1, -1, grid[1]), axes[1][:, None]
    return torch.stack([rows, columns.expand_as(rows)], dim=-1).flatten(1, 2)


def true_matches(centers1: Tensor, centers2: Tensor) -> Tensor:
    """Return, for each patch of one view, the patch of the other with the nearest center.

    Args:
        centers1: From :func:`patch_centers`, shape (B, N, 2).
        centers2: Shape (B, M, 2).

    Returns:
        int64 (B, N).
    """
    return (centers1[:, :, None] - centers2[:, None]).square().sum(dim=-1).argmin(dim=-1)


def overlapping(centers1: Tensor, centers2: Tensor, margin: float = 8 / 224) -> Tensor:
    """Find the patches of one view that the other shows too.

    Args:
        centers1: From :func:`patch_centers`, shape (B, N, 2).
        centers2: Shape (B, M, 2).
        margin: Share of the image by which a center may lie outside of the other view's centers.
            Defaults to 8 / 224, as published: half a patch of ViT-S/16.

    Returns:
        True in the overlap, shape (B, N).
    """
    low, high = centers2.amin(dim=1, keepdim=True), centers2.amax(dim=1, keepdim=True)
    return ((centers1 + margin >= low) & (centers1 - margin <= high)).all(dim=-1)


def matching_accuracy(
    match: Tensor, true_match: Tensor, overlap: Tensor, width: int, radius: int = 0
) -> Tensor:
    """Compute the share of right matches among the patches of the overlap, over all images at once.

    Args:
        match: From :func:`match_patches`, shape (B, N).
        true_match: From :func:`true_matches`, shape (B, N).
        overlap: From :func:`overlapping`, shape (B, N).
        width: Columns of the second view's grid.
        radius: Patches by which row and column may each be wrong. Defaults to 0.

    Returns:
        Share, NaN where nothing overlaps.
    """
    rows = (match // width - true_match // width).abs()
    columns = (match % width - true_match % width).abs()
    right = (rows <= radius) & (columns <= radius)
    return right[overlap].double().mean()


def strongest_patches(attention: Tensor, number: int = 12) -> Tensor:
    """Return the places of the patches with the largest attention, largest first.

    Args:
        attention: Shape (N,); patches of attention 0, such as those outside of an overlap, are
            left out.
        number: At most so many. Defaults to 12, as published.

    Returns:
        int64 (K,).
    """
    return attention.topk(min(number, int((attention > 0).sum()))).indices
