# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Gaussian blur of a batch, each image with its own radius, with the values of Pillow's."""

import torch
from torch import Tensor

PASSES = 3
FRACTION_BITS = 24


def gaussian_blur(images: Tensor, radius: Tensor) -> Tensor:
    """Blur as Pillow does: three passes of an extended box filter along each axis.

    An extended box is a box whose two outermost taps have a smaller weight, such that the passes
    together have the variance of the Gaussian (Gwosdek et al., 2011). Every pass rounds to whole
    numbers and repeats the border pixels; weights are fixed-point, so that halves are rounded as
    Pillow rounds them.

    Args:
        images: (N, C, H, W), whole numbers 0 to 255.
        radius: (N,), standard deviations in pixels, on the CPU: which images share a box size is
            decided there.

    Returns:
        (N, C, H, W) of the same dtype.
    """
    whole, near, far = _extended_box(radius.float())
    boxes = whole.tolist()
    if len(set(boxes)) == 1:
        return _blur(images, boxes[0], near, far)
    blurred = torch.empty_like(images)
    for box in set(boxes):
        index = (whole == box).nonzero().flatten()
        rows = index.to(images.device, non_blocking=True)
        blurred[rows] = _blur(images[rows], box, near[index], far[index])
    return blurred


def _extended_box(radius: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whole part of the box radius, weight inside, weight of the two outermost taps, each (N,).

    In float32, as the truncated weights depend on it.
    """
    variance = radius * radius / PASSES
    length = (12 * variance.double() + 1).sqrt().float()
    whole = ((length - 1) / 2).floor()
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    fraction /= 6 * (variance - (whole + 1) * (whole + 1))
    box_radius = whole + fraction
    near = (torch.full_like(radius, 2**FRACTION_BITS) / (box_radius * 2 + 1)).int()
    whole = whole.int()
    far = (2**FRACTION_BITS - (2 * whole + 1) * near).div(2, rounding_mode='floor')
    return whole, near, far


def _blur(images: Tensor, whole: int, near: Tensor, far: Tensor) -> Tensor:
    """Images of one box size."""
    # Centred at 0, a weighted sum of pixels fits into 32 bits with its sign.
    missing = 2**FRACTION_BITS - (2 * whole + 1) * near - 2 * far  # to a sum of one
    rounding = 2 ** (FRACTION_BITS - 1) - 128 * missing
    weights = [
        weight.to(images.device, non_blocking=True).view(-1, 1, 1, 1)
        for weight in (near, far, rounding)
    ]
    pixels = images.int() - 128
    for dim in (3, 2):
        pixels = _blur_axis(pixels, dim, whole, *weights)
    return (pixels + 128).to(images.dtype)


def _blur_axis(
    pixels: Tensor, dim: int, whole: int, near: Tensor, far: Tensor, rounding: Tensor
) -> Tensor:
    """All passes along one axis, on int32."""
    size, reach = pixels.shape[dim], whole + 1
    shape = list(pixels.shape)
    shape[dim] += 2 * reach
    padded = pixels.new_empty(shape)
    inside = padded.narrow(dim, reach, size).copy_(pixels)
    for _ in range(PASSES):
        padded.narrow(dim, 0, reach).copy_(inside.narrow(dim, 0, 1))
        padded.narrow(dim, reach + size, reach).copy_(inside.narrow(dim, size - 1, 1))
        total = padded.narrow(dim, 0, size) + padded.narrow(dim, 2 * reach, size)
        total *= far
        box = inside
        for tap in range(1, reach):
            box = box + padded.narrow(dim, reach - tap, size)
            box += padded.narrow(dim, reach + tap, size)
        total.addcmul_(box, near).add_(rounding)
        torch.bitwise_right_shift(total, FRACTION_BITS, out=inside)
    return inside
