# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The operations of :mod:`.color` on images with steps between the 256 levels: nothing is rounded.

Images are (N, C, H, W), floating point, 0 to 255; factors (N,). Brightness and contrast take any
number of channels, the others RGB. No function changes its input.
"""

import torch
from torch import Tensor

from .color import per_image

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale all values: 1 keeps the image, 0 gives black."""
    return (images * per_image(factor, images)).clamp_(0, 255)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from, or towards, the mean: of the luma of RGB, else its channel's."""
    levels = gray_level(images) if images.shape[1] == 3 else images
    mean = levels.mean(dim=(-2, -1), keepdim=True)
    return torch.lerp(mean, images, per_image(factor, images)).clamp_(0, 255)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from, or towards, the gray level of its pixel."""
    return torch.lerp(gray_level(images), images, per_image(factor, images)).clamp_(0, 255)


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue by ``factor`` turns of the color circle, -0.5 to 0.5."""
    red, green, blue = images.split(1, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    divisor = torch.where(chroma > 0, chroma, 1)
    # In sixths of the circle.
    hue = torch.where(green == value, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    hue = torch.where(red == value, (green - blue) / divisor, hue)
    hue = hue + 6 * per_image(factor, images)
    # How much of its chroma a channel lacks, by the distance from where it is largest.
    distance = torch.cat([hue + 5, hue + 3, hue + 1], dim=1) % 6
    return value - chroma * torch.minimum(distance, 4 - distance).clamp_(0, 1)


def gray_level(images: Tensor) -> Tensor:
    """Compute ITU-R 601 luma, (N, 3, H, W) to (N, 1, H, W)."""
    weights = images.new_tensor(LUMA).view(1, 3, 1, 1)
    return (images * weights).sum(dim=1, keepdim=True)


def to_gray(images: Tensor) -> Tensor:
    """Return the gray level in all three channels."""
    return gray_level(images).expand_as(images)
