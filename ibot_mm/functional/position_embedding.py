# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Resizing of learned position embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

is_exporting = getattr(torch.compiler, 'is_exporting', lambda: False)  # since torch 2.7


def resize_position_embedding(
    position_embedding: Tensor,
    source_grid: tuple[int, int],
    target_grid: tuple[int, int],
    num_extra_tokens: int = 1,
) -> Tensor:
    """Resize a position embedding bicubically, as the published iBOT and DINO do it.

    The scale handed to ``interpolate`` is ``(target + 0.1) / source``: the 0.1 was meant against
    rounding, but it shifts the sampling points and is therefore part of the function that
    published weights were trained with.

    While ``torch.export`` records a graph the target grid may be a symbol, and the same function
    is written in another way, see :func:`resize_by_matrices`.

    Args:
        position_embedding: Shape (1, num_extra_tokens + H * W, D).
        source_grid: Grid (H, W) that the embedding was made for.
        target_grid: Grid (h, w) of the patches at hand.
        num_extra_tokens: Leading tokens without a place on the grid, such as [CLS].
            Defaults to 1.

    Returns:
        Shape (1, num_extra_tokens + h * w, D); the embedding itself where the grids are equal.
    """
    if not is_exporting() and tuple(source_grid) == tuple(target_grid):
        return position_embedding
    extra, patches = position_embedding.split(
        [num_extra_tokens, position_embedding.shape[1] - num_extra_tokens], dim=1
    )
    maps = patches.unflatten(1, source_grid).permute(0, 3, 1, 2)  # (1, D, H, W)
    if is_exporting():
        maps = resize_by_matrices(maps, target_grid)
    else:
        scale = [(t + 0.1) / s for t, s in zip(target_grid, source_grid)]
        maps = F.interpolate(maps, scale_factor=scale, mode='bicubic')  # (1, D, h, w)
    return torch.cat([extra, maps.flatten(2).transpose(1, 2)], dim=1)


def resize_by_matrices(maps: Tensor, target_grid: tuple[int, int]) -> Tensor:
    """Resize bicubically with the published scale, in operations that know no target size.

    A graph for images of any size can neither branch on their grid nor hand it to ``interpolate``
    as a scale. So the four taps of each axis become a matrix with a row for every target position;
    where the grids are equal both matrices are the identity.

    Args:
        maps: Shape (1, D, H, W).
        target_grid: (h, w), numbers or symbols.

    Returns:
        Shape (1, D, h, w), to rounding error that of :func:`resize_position_embedding`.
    """
    dtype = torch.promote_types(maps.dtype, torch.float32)
    axes = [torch.arange(size, device=maps.device, dtype=dtype) for size in target_grid]
    sizes = [(axis[-1] + 1, length) for axis, length in zip(axes, maps.shape[2:])]
    same = torch.stack([size == length for size, length in sizes]).all()
    rows, columns = (
        _taps(axis, torch.where(same, 1.0, length / (size + 0.1)), length).to(maps.dtype)
        for axis, (size, length) in zip(axes, sizes)
    )
    maps = (maps @ columns.T).transpose(2, 3)  # (1, D, w, H)
    return (maps @ rows.T).transpose(2, 3)


def _taps(axis: Tensor, step: Tensor, length: int, a: float = -0.75) -> Tensor:
    """Weights of bicubic interpolation on one axis, (targets, length); edges are repeated."""
    centers = step * (axis + 0.5) - 0.5
    first = centers.floor()
    places = torch.arange(length, device=axis.device, dtype=axis.dtype)
    weights = torch.zeros_like(axis[:, None] * places)
    for tap in (-1, 0, 1, 2):
        x = (centers - first - tap).abs()
        near = ((a + 2) * x - (a + 3)) * x**2 + 1
        far = ((x - 5) * x + 8) * a * x - 4 * a
        index = (first + tap).clamp(0, length - 1)
        weights = weights + (index[:, None] == places) * torch.where(x <= 1, near, far)[:, None]
    return weights
