# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Gaussian blur with the values of Pillow's: of a batch on any device, or of one 8-bit image.

Pillow makes three passes of an extended box filter along each axis. An extended box is a box whose
two outermost taps have a smaller weight, such that the passes together have the variance of the
Gaussian (Gwosdek et al., 2011). Every pass rounds to whole numbers and repeats the border pixels.
"""

from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PASSES = 3
FRACTION_BITS = 24
# OpenCV is fastest down the columns. It would turn weights that sum to one into 8-bit ones.
TWICE = np.full(1, 2, dtype=np.float32)
MOST_CHANNELS = 4  # that all of its functions take
REACH = 3  # of a Gaussian kernel, in standard deviations


def gaussian_blur(images: Tensor, radius: Tensor) -> Tensor:
    """Blur a batch, each image with its own radius.

    Weights are fixed-point, so that halves are rounded as Pillow rounds them.

    Args:
        images: (N, C, H, W), whole numbers 0 to 255.
        radius: (N,), standard deviations in pixels, on the CPU: how many taps the widest box has
            is decided there.

    Returns:
        (N, C, H, W) of the same dtype.
    """
    whole, near, far = _extended_box(radius.float().numpy()[:, None])
    tap = np.arange(whole.max() + 2)  # from the center outwards
    weights = np.where(tap <= whole, near, np.where(tap == whole + 1, far, 0))
    # Centered at 0, a weighted sum of pixels fits into 32 bits with its sign.
    missing = 2**FRACTION_BITS - (2 * whole + 1) * near - 2 * far  # to a sum of one
    rounding = 2 ** (FRACTION_BITS - 1) - 128 * missing
    table = torch.from_numpy(np.hstack([weights, rounding]).astype(np.int32))
    *taps, rounding = table.to(images.device, non_blocking=True)[..., None, None, None].unbind(1)
    pixels = images.int() - 128
    for dim in (3, 2):
        pixels = _blur_axis(pixels, dim, taps, rounding)
    return (pixels + 128).to(images.dtype)


def gaussian_blur_uint8(image: np.ndarray, radius: float) -> None:
    """Blur one image in place, on the CPU.

    OpenCV's weights are float32, so that a value on the verge of rounding may differ by one level
    from :func:`gaussian_blur`.

    Args:
        image: uint8 (C, H, W), contiguous.
        radius: Standard deviation in pixels.
    """
    if len(image) > MOST_CHANNELS:
        for start in range(0, len(image), MOST_CHANNELS):
            gaussian_blur_uint8(image[start : start + MOST_CHANNELS], radius)
        return
    whole, near, far = _extended_box(np.float32(radius))
    box = np.array([far, *[near] * (2 * whole + 1), far], dtype=np.float32)
    box /= 2**FRACTION_BITS  # in place, since numpy 1 would make it float64
    pixels = cv2.merge([*image])
    for _ in range(2):  # along the rows, then along the columns
        pixels = cv2.transpose(pixels)
        for _ in range(PASSES):
            pixels = cv2.sepFilter2D(pixels, -1, TWICE, box / 2, borderType=cv2.BORDER_REPLICATE)
    cv2.split(pixels, [*image])


def gaussian_blur_float(images: Tensor, radius: Tensor) -> Tensor:
    """Blur a batch without rounding, each image by the Gaussian of its own radius.

    Args:
        images: (N, C, H, W), floating point.
        radius: (N,), standard deviations in pixels, on the CPU, as of :func:`gaussian_blur`.

    Returns:
        (N, C, H, W).
    """
    reach = max(round(REACH * radius.max().item()), 1)
    taps = torch.arange(-reach, reach + 1)
    kernels = torch.exp(-0.5 * (taps / radius[:, None]) ** 2)  # (N, K)
    weights = kernels / kernels.sum(1, keepdim=True)
    weights = weights.to(images, non_blocking=True)[..., None, None, None]  # (N, K, 1, 1, 1)
    for dim, pad in ((3, (reach, reach, 0, 0)), (2, (0, 0, reach, reach))):
        padded = F.pad(images, pad, mode='replicate')
        size = images.shape[dim]
        images = torch.zeros_like(images)
        for tap in range(2 * reach + 1):
            images.addcmul_(weights[:, tap], padded.narrow(dim, tap, size))
    return images


def _extended_box(radius: Any) -> tuple[Any, Any, Any]:
    """Whole part of the box radius, weight inside, weight of the two outermost taps, int64.

    Weights are in ``2 ** -FRACTION_BITS``. The radius is a number or an array, in float32 as in
    Pillow, since the truncated weights depend on it.
    """
    variance = radius * radius / PASSES
    length = np.sqrt(12 * variance.astype(np.float64) + 1).astype(np.float32)
    whole = np.floor((length - 1) / 2)
    fraction = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance)
    fraction /= 6 * (variance - (whole + 1) * (whole + 1))
    near = (2**FRACTION_BITS / (2 * (whole + fraction) + 1)).astype(np.int64)
    whole = whole.astype(np.int64)
    return whole, near, (2**FRACTION_BITS - (2 * whole + 1) * near) // 2


def _blur_axis(pixels: Tensor, dim: int, taps: list[Tensor], rounding: Tensor) -> Tensor:
    """All passes along one axis, on int32."""
    size, reach = pixels.shape[dim], len(taps) - 1
    shape = list(pixels.shape)
    shape[dim] += 2 * reach
    padded = pixels.new_empty(shape)
    inside = padded.narrow(dim, reach, size).copy_(pixels)
    for _ in range(PASSES):
        padded.narrow(dim, 0, reach).copy_(inside.narrow(dim, 0, 1))
        padded.narrow(dim, reach + size, reach).copy_(inside.narrow(dim, size - 1, 1))
        total = torch.addcmul(rounding, inside, taps[0])
        for tap in range(1, reach + 1):
            left, right = (
                padded.narrow(dim, reach - tap, size),
                padded.narrow(dim, reach + tap, size),
            )
            total.addcmul_(left + right, taps[tap])
        torch.bitwise_right_shift(total, FRACTION_BITS, out=inside)
    return inside
