# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patches of images taken away or put in another order (paper, section 4.3.3; arXiv 2105.10497).

Patches count row by row. The published code has one sample for a whole batch of 1024 images, so
that its numbers depend on the batch size and on few samples (50 for ImageNet). Here every image has
its own, from a seed and the image's number: the number measured is a mean over many samples, and
depends neither on the batch size nor on the order of the images.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

PUBLISHED_GRIDS = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (14, 14), (16, 16))
PUBLISHED_DROPS = tuple(step / 10 for step in range(10))
PUBLISHED_SHARES = tuple(step / 10 for step in range(1, 11))


def sample_orders(
    num_patches: int,
    images: Sequence[int],
    seed: int = 0,
    as_published: bool = False,
) -> Tensor:
    """Sample an order of patches for each image.

    The first n of an order are a sample of n patches, so that what is taken away grows with n.

    Args:
        num_patches: N.
        images: Numbers of the images in their data set.
        seed: Defaults to 0.
        as_published: Whether all images of the batch have the order that numpy's old generator
            gives for the seed; the published one is 1. Defaults to False.

    Returns:
        Shape (B, N).
    """
    if as_published:
        order = torch.from_numpy(np.random.RandomState(seed).permutation(num_patches))
        return order.expand(len(images), num_patches)
    orders = [np.random.default_rng((seed, int(i))).permutation(num_patches) for i in images]
    return torch.from_numpy(np.stack(orders))


def shuffle_patches(images: Tensor, grid: tuple[int, int], orders: Tensor) -> Tensor:
    """Put the patches of images in another order.

    Args:
        images: Shape (B, C, H, W).
        grid: Rows and columns of patches.
        orders: Which patch comes to each place, (B, rows * columns).

    Raises:
        ValueError: If the grid does not divide the images.
    """
    rows, columns = grid
    height, width = _patch_size(images, grid)
    batch, channels = images.shape[:2]
    patches = images.reshape(batch, channels, rows, height, columns, width)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (B, N, C, h, w)
    index = orders.to(images.device)[:, :, None, None, None].expand_as(patches)
    moved = patches.gather(1, index).unflatten(1, (rows, columns))
    return moved.permute(0, 3, 1, 4, 2, 5).reshape_as(images)


def drop_patches(images: Tensor, dropped: Tensor, grid: tuple[int, int], offset: int = 0) -> Tensor:
    """Set patches of images to 0, which is the mean color of images that are normalized.

    Args:
        images: Shape (B, C, H, W).
        dropped: Which patches, bool (B, rows * columns).
        grid: Rows and columns of patches.
        offset: Pixels by which the dropped regions are moved down and to the right; what leaves
            the image is lost. Defaults to 0.

    Raises:
        ValueError: If the grid does not divide the images.
    """
    height, width = _patch_size(images, grid)
    regions = dropped.to(images.device).unflatten(1, grid)
    regions = regions.repeat_interleave(height, 1).repeat_interleave(width, 2)
    if offset:
        moved = torch.zeros_like(regions)
        moved[:, offset:, offset:] = regions[:, :-offset, :-offset]
        regions = moved
    return images.masked_fill(regions[:, None], 0)


def first_patches(orders: Tensor, number: int) -> Tensor:
    """Mark the first patches of an order, bool (B, N).

    Args:
        orders: As of :func:`sample_orders`, (B, N).
        number: How many.
    """
    marked = torch.zeros_like(orders, dtype=torch.bool)
    return marked.scatter(1, orders[:, :number], True)


def _patch_size(images: Tensor, grid: tuple[int, int]) -> tuple[int, int]:
    sides = images.shape[-2:]
    if any(number < 1 or side % number for side, number in zip(sides, grid)):
        raise ValueError(
            f'images of {sides[0]} x {sides[1]} pixels cannot be cut into {grid[0]} x {grid[1]} '
            'patches of one size: choose divisors of the sides'
        )
    return sides[0] // grid[0], sides[1] // grid[1]
