# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Resizing of learned position embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_position_embedding(
    position_embedding: Tensor,
    source_grid: tuple[int, int],
    target_grid: tuple[int, int],
    num_extra_tokens: int = 1,
) -> Tensor:
    """Bicubic resize of a position embedding, as the published iBOT and DINO do it.

    The scale handed to ``interpolate`` is ``(target + 0.1) / source``: the 0.1 was meant against
    rounding, but it shifts the sampling points and is therefore part of the function that
    published weights were trained with.

    Args:
        position_embedding: Shape (1, num_extra_tokens + H * W, D).
        source_grid: Grid (H, W) that the embedding was made for.
        target_grid: Grid (h, w) of the patches at hand.
        num_extra_tokens: Leading tokens without a place on the grid, such as [CLS].
            Defaults to 1.

    Returns:
        Shape (1, num_extra_tokens + h * w, D); the embedding itself where the grids are equal.
    """
    if tuple(source_grid) == tuple(target_grid):
        return position_embedding
    extra, patches = position_embedding.split(
        [num_extra_tokens, position_embedding.shape[1] - num_extra_tokens], dim=1
    )
    scale = [(t + 0.1) / s for t, s in zip(target_grid, source_grid)]
    patches = patches.unflatten(1, source_grid).permute(0, 3, 1, 2)  # (1, D, H, W)
    patches = F.interpolate(patches, scale_factor=scale, mode='bicubic')  # (1, D, h, w)
    return torch.cat([extra, patches.flatten(2).transpose(1, 2)], dim=1)
