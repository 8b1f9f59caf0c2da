# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patch embedding as one matrix product."""

import torch.nn.functional as F
from mmcv.cnn.bricks.transformer import PatchEmbed
from torch import Tensor, nn

from ibot_mm.functional.position_embedding import is_exporting

from .patches import check_channels


def embed_patches(embedding: PatchEmbed, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Embed patches that do not overlap by a product instead of a convolution.

    Such a convolution is a linear layer on the pixels of each patch. As a product its output is
    channels last, which is what tokens are, where the convolution's must be transposed.

    Args:
        embedding: mmcv's patch embedding. One that overlaps, pads or dilates runs as it is, and so
            does one with hooks, and any while a graph for images of any size is exported.
        images: Shape (B, C, H, W); what exceeds a multiple of the patch is cut off.

    Returns:
        Tokens (B, H/p * W/p, D) and their grid (H/p, W/p).

    Raises:
        ValueError: If images have other channels than the embedding takes.
    """
    projection = embedding.projection
    check_channels(images, projection.in_channels)
    if is_exporting() or not (
        type(projection) is nn.Conv2d
        and projection.stride == projection.kernel_size
        and projection.padding == (0, 0)
        and projection.dilation == (1, 1)
        and embedding.adaptive_padding is None
        and not _has_hooks(embedding)
        and not _has_hooks(projection)
    ):
        return embedding(images)
    height, width = projection.kernel_size
    grid = images.shape[-2] // height, images.shape[-1] // width
    images = images[..., : grid[0] * height, : grid[1] * width]
    patches = images.unflatten(3, (grid[1], width)).unflatten(2, (grid[0], height))
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, N, C * p * p)
    tokens = F.linear(patches, projection.weight.flatten(1), projection.bias)
    return tokens if embedding.norm is None else embedding.norm(tokens), grid


def _has_hooks(module: nn.Module) -> bool:
    """Whether something waits for the module to be called."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    )
