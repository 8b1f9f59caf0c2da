# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The operations of :mod:`.color` on one 8-bit image, for the CPU: the same values, faster.

Images are uint8 (3, H, W), RGB, contiguous; brightness and contrast take any number of channels.
Operations change their image. 8-bit arithmetic and
small tables replace floats where they can, since memory is what takes the time.
"""

from functools import cache

import cv2
import numpy as np

# Turns rounding to nearest into rounding down; all terms are multiples of 2**-14 (see
# `sample_parameters`), so that float32 is exact.
ROUND_DOWN = 2**-15 - 0.5
LUMA = (19595, 38470, 7471)  # in 1/65536


def adjust_brightness(image: np.ndarray, factor: float) -> None:
    """Scale all values.

    Args:
        image: uint8 (C, H, W).
        factor: 1 keeps the image, 0 gives black.
    """
    _scale(image, factor, 0)


def adjust_contrast(image: np.ndarray, factor: float) -> None:
    """Move every value away from, or towards, the mean gray level of the image.

    Args:
        image: uint8 (C, H, W). Of RGB the mean is that of the luma, of others each channel's own.
        factor: 1 keeps the image, 0 gives one flat gray.
    """
    totals = [int(cv2.sumElems(plane)[0]) for plane in image]
    size = image[0].size
    if len(image) == len(LUMA):
        total = sum(total * weight for total, weight in zip(totals, LUMA))
        mean = (total + 32768 * size) // (65536 * size)
        _scale(image, factor, (1 - factor) * mean)
        return
    for plane, total in zip(image, totals):
        _scale(plane, factor, (1 - factor) * ((2 * total + size) // (2 * size)))


def adjust_saturation(image: np.ndarray, factor: float) -> None:
    """Move every value away from, or towards, the gray level of its pixel.

    Args:
        image: uint8 (3, H, W), RGB.
        factor: 1 keeps the image, 0 gives the gray image.
    """
    gray = gray_level(image)
    for plane in image:
        cv2.addWeighted(plane, factor, gray, 1 - factor, ROUND_DOWN, dst=plane)


def adjust_hue(image: np.ndarray, factor: float) -> None:
    """Turn the hue, in 8 bits as :func:`.color.adjust_hue` does.

    Args:
        image: uint8 (3, H, W), RGB.
        factor: In turns of the color circle, -0.5 to 0.5.
    """
    red, green, blue = image
    larger, smaller = cv2.max(red, green), cv2.min(red, green)
    value, middle = cv2.max(larger, blue), cv2.max(smaller, cv2.min(larger, blue))
    chroma = value - cv2.min(smaller, blue)
    order = (red >= green).view(np.uint8) * np.uint8(4)
    order += (green >= blue).view(np.uint8) * np.uint8(2)
    order += (red >= blue).view(np.uint8)

    entry = cv2.merge([chroma, value - middle, order, np.zeros_like(order)])  # 4 bytes, 1 number
    hue = _hue_table().take(entry.view('<u4')[..., 0], mode='wrap')  # without a check of bounds
    hue += np.uint8(int(factor * 255) % 256)  # wraps
    saturation = cv2.divide(chroma, np.maximum(value, 1), scale=255, dtype=cv2.CV_32F)
    spread = cv2.multiply(np.floor(saturation), value, scale=1 / 255, dtype=cv2.CV_32F)
    for plane, share in zip(image, _missing_share()):
        missing = cv2.multiply(cv2.LUT(hue, share), spread, dtype=cv2.CV_8U)
        np.subtract(value, missing, out=plane)


def gray_level(image: np.ndarray) -> np.ndarray:
    """Compute ITU-R 601 luma in Pillow's 16-bit fixed point, (3, H, W) to (H, W), uint8."""
    red, green, blue = image
    weights = [weight / 65536 for weight in LUMA]
    level = cv2.addWeighted(red, weights[0], green, weights[1], 0.5, dtype=cv2.CV_32F)
    cv2.addWeighted(blue, weights[2], level, 1, 0, dst=level, dtype=cv2.CV_32F)  # exact
    return level.astype(np.uint8)


def to_gray(image: np.ndarray) -> None:
    """Put the gray level into all three channels."""
    image[:] = gray_level(image)


def solarize(image: np.ndarray) -> None:
    """Invert the values from 128 up."""
    np.minimum(image, ~image, out=image)


def normalize(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Subtract a mean and divide by a deviation.

    Args:
        images: uint8 (N, C, H, W).
        mean: float32 (C,).
        std: float32 (C,).

    Returns:
        float32 (N, C, H, W).
    """
    tables = (np.arange(256, dtype=np.float32) - mean[:, None]) / std[:, None]
    output = np.empty(images.shape, dtype=np.float32)
    for image, normalized in zip(images, output):
        for plane, table, target in zip(image, tables, normalized):
            cv2.LUT(plane, table, dst=target)
    return output


def _scale(image: np.ndarray, factor: float, offset: float) -> None:
    """image * factor + offset, rounded down and clipped."""
    flat = image.reshape(-1, image.shape[-1])
    cv2.addWeighted(flat, factor, flat, 0, offset + ROUND_DOWN, dst=flat)


@cache
def _hue_table() -> np.ndarray:
    """Tabulate the 8-bit hue by order of channels, distance of the middle one, and chroma.

    The order has the bits red >= green, green >= blue, red >= blue; the distance is that from
    the largest channel to the middle one.
    """
    distance, chroma = np.meshgrid(*[np.arange(256, dtype=np.float32)] * 2, indexing='ij')
    share = distance / np.maximum(chroma, 1)
    hue = np.zeros((8, 256, 256), dtype=np.float32)  # in sixths of the circle
    hue[0b111], hue[0b101] = 1 - share, share - 1  # red is largest
    hue[0b010], hue[0b011] = 3 - share, share + 1  # green
    hue[0b100], hue[0b000] = 5 - share, share + 3  # blue
    hue /= np.float32(6)
    hue -= np.floor(hue)
    return np.floor(hue * 255).astype(np.uint8).ravel()


@cache
def _missing_share() -> list[np.ndarray]:
    """By hue, which share of the spread red, green and blue are below the largest channel."""
    sixth = np.arange(256, dtype=np.float32) * np.float32(6 / 255)
    red = 2 - np.abs(sixth - 3)
    green, blue = np.abs(sixth - 2) - 1, np.abs(sixth - 4) - 1
    return [np.clip(share, 0, 1) for share in (red, green, blue)]
