# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Rotary position embedding of patches in the plane, as DINOv3 has it."""

import math

import torch
from torch import Tensor


def rotary_angles(
    grid: tuple[int, int],
    channels: int,
    base: float = 100.0,
    device: torch.device | None = None,
) -> Tensor:
    """Compute angles by which the channels of each patch are turned.

    A patch has the coordinates of its center, each axis running from -1 to 1 for images of
    any size and aspect. A quarter of the channels belongs to each axis; its k-th frequency is
    ``2 pi / base ** (4 k / channels)``.

    Args:
        grid: Patches (H, W) of the image.
        channels: Channels of one attention head, a multiple of 4.
        base: Of the geometric row of periods. Defaults to 100.
        device: Of the result. Defaults to None, the current one.

    Returns:
        Shape (H * W, channels / 2) in radians, float32: vertical angles, then horizontal ones.

    Raises:
        ValueError: If ``channels`` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(
            f'Rotary position embedding needs heads of a multiple of 4 channels, got {channels}: '
            'change embed_dims or num_heads.'
        )
    exponents = torch.arange(0, channels, 4, device=device, dtype=torch.float32) / channels
    frequencies = 2 * math.pi / base**exponents  # (channels / 4)
    axes = [(torch.arange(n, device=device) + 0.5) / n * 2 - 1 for n in grid]
    centers = torch.cartesian_prod(*axes)  # (H * W, 2), vertical coordinate first
    return (centers[:, :, None] * frequencies).flatten(1)


def rotate(tokens: Tensor, angles: Tensor) -> Tensor:
    """Turn the queries or keys of patches; tokens before them, such as [CLS], stay.

    Channels c and c + C / 2 form a plane in which the c-th angle turns them.

    Args:
        tokens: Shape (..., T, C).
        angles: Shape (..., N, C / 2) of the last N <= T tokens.

    Returns:
        Shape and type of ``tokens``.
    """
    extra, patches = tokens.split([tokens.shape[-2] - angles.shape[-2], angles.shape[-2]], dim=-2)
    first, second = patches.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([extra, turned.to(tokens.dtype)], dim=-2)
