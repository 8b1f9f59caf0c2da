# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images cut into patches, of which some are hidden from the network."""

from collections.abc import Sequence

import torch
from torch import Tensor


def check_size(images: Tensor, patch_size: Sequence[int]) -> None:
    """Refuse images smaller than one patch.

    Args:
        images: Shape (B, C, H, W).
        patch_size: Height and width in pixels.

    Raises:
        ValueError: If height or width of the images is less.
    """
    if images.shape[-2] < patch_size[0] or images.shape[-1] < patch_size[1]:
        raise ValueError(
            f'Images of {tuple(images.shape[-2:])} pixels are smaller than one patch of '
            f'{tuple(patch_size)}: check the resizing and cropping of the data.'
        )


def check_channels(images: Tensor, in_channels: int) -> None:
    """Refuse images of other channels than the patch embedding takes.

    Args:
        images: Shape (B, C, H, W).
        in_channels: Channels wanted.

    Raises:
        ValueError: If C is another number.
    """
    if images.shape[1] != in_channels:
        raise ValueError(
            f'Images have {images.shape[1]} channels, and the backbone takes {in_channels}: set '
            f'in_channels={images.shape[1]} of the backbone (in_chans of a model of timm), or read '
            f'other channels, LoadImage(channels={in_channels}).'
        )


def hide_patches(
    tokens: Tensor, masks: Tensor, mask_token: Tensor | None, grid: Sequence[int]
) -> Tensor:
    """Put the mask token in the place of embeddings of patches.

    Args:
        tokens: Embeddings before the position is added, shape (B, H/p * W/p, D).
        masks: True at hidden patches, shape (B, H/p, W/p).
        mask_token: Shape (1, 1, D), or None of a network without.
        grid: (H/p, W/p).

    Returns:
        Shape (B, H/p * W/p, D).

    Raises:
        ValueError: If there is no mask token, or the masks are of another grid.
    """
    if mask_token is None:
        raise ValueError('Masks were given to a backbone built with mask_token=False.')
    if tuple(masks.shape[1:]) != tuple(grid):
        raise ValueError(
            f'Masks of {tuple(masks.shape[1:])} patches do not fit the grid {tuple(grid)} of '
            'the images: the patch_size of MaskGenerator and of the backbone must be equal.'
        )
    return torch.where(masks.flatten(1)[..., None], mask_token.to(tokens.dtype), tokens)
