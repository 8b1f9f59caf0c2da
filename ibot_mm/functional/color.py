# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Color operations on batches of RGB images, with the values of Pillow's 8-bit ones.

Images are (N, 3, H, W) float32 that hold whole numbers 0 to 255, and so are the results: every
operation ends with the clipping and truncation that 8-bit images force on Pillow. Brightness and
contrast take any number of channels. Factors are (N,), one for each image, on any device. No
function changes its input.
"""

import torch
from torch import Tensor


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale all values.

    Args:
        images: (N, C, H, W), 0 to 255.
        factor: (N,), 1 keeps the image, 0 gives black.

    Returns:
        (N, C, H, W).
    """
    return _truncate(images * per_image(factor, images))


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from, or towards, the mean gray level of its image.

    Args:
        images: (N, C, H, W), 0 to 255. Of RGB the mean is that of the luma, of others each
            channel's own.
        factor: (N,), 1 keeps the image, 0 gives one flat gray.

    Returns:
        (N, C, H, W).
    """
    # In whole numbers, so that the same image has the same mean on every device.
    total, unit = images.sum(dim=(-2, -1), keepdim=True, dtype=torch.int64), 1
    if images.shape[1] == 3:
        total, unit = _luma(total), 65536
    size = unit * images[0, 0].numel()
    mean = (2 * total + size) // (2 * size)
    return _truncate(torch.lerp(mean.to(images), images, per_image(factor, images)))


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from, or towards, the gray level of its pixel.

    Args:
        images: (N, 3, H, W), RGB, 0 to 255.
        factor: (N,), 1 keeps the image, 0 gives the gray image.

    Returns:
        (N, 3, H, W).
    """
    return _truncate(torch.lerp(gray_level(images), images, per_image(factor, images)))


def adjust_hue(images: Tensor, factor: Tensor) -> Tensor:
    """Turn the hue, by way of an HSV image of 8 bits a channel.

    The quantization is part of the function: one of the 255 steps of hue moves a channel by up to
    six levels. It is reached without branches, which neither CPU nor GPU like.

    Args:
        images: (N, 3, H, W), RGB, 0 to 255.
        factor: (N,), in turns of the color circle, -0.5 to 0.5.

    Returns:
        (N, 3, H, W).
    """
    hue, saturation, value = _to_hsv(images)
    hue += torch.trunc(per_image(factor, images) * 255) % 256
    hue -= torch.floor(hue / 256).mul_(256)  # wraps at 256, as 8-bit addition does
    sixth = hue.mul_(6 / 255)

    spread = saturation.mul_(1 / 255).mul_(value)
    output = torch.empty_like(images)
    # How much of the spread a channel lacks changes linearly in a sixth of the circle on either
    # side: of where red is least, 3 sixths; of where green and blue are most, 2 and 4 sixths.
    for channel, center, sign, offset in ((0, 3, -1, 2), (1, 2, 1, -1), (2, 4, 1, -1)):
        share = (sixth - center).abs_().mul_(sign).add_(offset).clamp_(0, 1)
        missing = share.mul_(spread).round_()
        torch.sub(value, missing, out=output[:, channel : channel + 1])
    return output


def gray_level(images: Tensor) -> Tensor:
    """Compute ITU-R 601 luma in Pillow's 16-bit fixed point, (N, 3, H, W) to (N, 1, H, W)."""
    return _luma(images).add_(32768).div_(65536).floor_()


def to_gray(images: Tensor) -> Tensor:
    """Return the gray level in all three channels, (N, 3, H, W) to (N, 3, H, W)."""
    return gray_level(images).expand_as(images)


def solarize(images: Tensor) -> Tensor:
    """Invert the values from 128 up, (N, 3, H, W) to (N, 3, H, W)."""
    return torch.minimum(images, 255 - images)


def per_image(factor: Tensor, images: Tensor) -> Tensor:
    """Shape factors (N,) to (N, 1, 1, 1), of the images' type and on their device."""
    return factor.to(images, non_blocking=True).view(-1, 1, 1, 1)


def _luma(channels: Tensor) -> Tensor:
    """Weighted sum of red, green and blue, in 1/65536, (N, 3, H, W) to (N, 1, H, W)."""
    red, green, blue = channels.split(1, dim=1)
    return (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471)


def _to_hsv(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Hue, saturation and value, each (N, 1, H, W), truncated to 0..255."""
    red, green, blue = images.split(1, dim=1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)

    # Distances from the largest channel: 0 for that one, 1 for the smallest. Where a channel is
    # the smallest, the hue is 5 (green), 3 (red) or 1 (blue) plus the difference of the others,
    # in sixths of the circle; from red towards blue it is negative, and wrapped below.
    # Pillow truncates a float32, so the order of rounding counts: this one gives its hue for
    # every color.
    from_red, from_green, from_blue = ((value - images) / chroma.clamp(min=1)).split(1, dim=1)
    hue = (from_blue - from_red).add_(from_red.ceil().mul_(6).sub_(1))
    hue = hue.lerp_((from_green - from_blue).add_(3), from_red.floor())
    hue = hue.lerp_((from_red - from_green).add_(1), from_blue.floor())
    hue /= hue.new_full((), 6)  # by a Python number CUDA would multiply by the reciprocal
    hue -= hue.floor()

    saturation = chroma.mul_(255).div_(value.clamp(min=1)).floor_()
    return hue.mul_(255).floor_(), saturation, value


def _truncate(images: Tensor) -> Tensor:
    return images.clamp_(0, 255).floor_()
