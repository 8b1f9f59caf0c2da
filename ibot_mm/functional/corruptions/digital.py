# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What processing does: brightness, contrast, saturation, distortion, pixels, compression."""

from io import BytesIO

import cv2
import numpy as np
from numpy.random import Generator
from PIL import Image

from .blur import scale

BRIGHTNESS = 0.1, 0.2, 0.3, 0.4, 0.5  # added to the value of HSV
CONTRAST = 0.4, 0.3, 0.2, 0.1, 0.05  # share that is kept
SATURATION = (0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)  # factor, summand
# Displacement, its smoothness and that of an affine map, of which 244 make the shorter side.
ELASTIC = (2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)
ELASTIC_SIZE = 244
PIXELS = 0.6, 0.5, 0.4, 0.3, 0.25  # share of the sides
QUALITY = 25, 18, 15, 10, 7  # of JPEG


def brightness(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Make brighter, with hue and saturation kept."""
    value = image.max(axis=2, keepdims=True)
    brighter = np.minimum(value + BRIGHTNESS[severity - 1], 1)
    return np.where(value > 0, image * brighter / np.where(value > 0, value, 1), brighter)


def saturate(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Change the saturation, with hue and value kept; the hue of gray counts as red."""
    factor, summand = SATURATION[severity - 1]
    value = image.max(axis=2, keepdims=True)
    distance = value - image
    largest = distance.max(axis=2, keepdims=True)
    is_gray = largest == 0
    # How far each channel lies below the value, as a share of the farthest.
    hue = np.where(is_gray, (0.0, 1.0, 1.0), distance / np.where(is_gray, 1, largest))
    saturation = largest / np.where(value > 0, value, 1)
    return value - value * hue * np.clip(saturation * factor + summand, 0, 1)


def contrast(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Bring every channel nearer to its mean."""
    mean = image.mean(axis=(0, 1))
    return (image - mean) * CONTRAST[severity - 1] + mean


def elastic_transform(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Move three points, and all others with them; then each pixel, smoothly."""
    height, width = image.shape[:2]
    unit = scale(image) * ELASTIC_SIZE
    amount, smoothness, shift = (unit * share for share in ELASTIC[severity - 1])
    center, third = np.array([height // 2, width // 2]), min(height, width) // 3
    corners = (center + np.array([[1, 1], [1, -1], [-1, -1]]) * third).astype(np.float32)
    moved = corners + random.uniform(-shift, shift, corners.shape).astype(np.float32)
    affine = cv2.getAffineTransform(corners, moved)
    mapped = cv2.warpAffine(image, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    offsets = np.arange(-int(3 * smoothness + 0.5), int(3 * smoothness + 0.5) + 1)
    bell = np.exp(-(offsets**2) / (2 * smoothness**2))
    bell /= bell.sum()
    right, down = (
        amount * cv2.sepFilter2D(noise, -1, bell, bell, borderType=cv2.BORDER_REFLECT)
        for noise in random.uniform(-1, 1, (2, height, width))
    )
    rows, columns = np.mgrid[:height, :width]
    maps = ((columns + right).astype(np.float32), (rows + down).astype(np.float32))
    return cv2.remap(mapped, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def pixelate(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Make smaller and larger again by boxes."""
    pixels = _to_pillow(image)
    small = [max(1, int(side * PIXELS[severity - 1])) for side in pixels.size]
    boxes = pixels.resize(small, Image.Resampling.BOX).resize(pixels.size, Image.Resampling.BOX)
    return np.asarray(boxes) / 255


def jpeg_compression(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Compress as JPEG."""
    return compress(np.asarray(_to_pillow(image)), QUALITY[severity - 1]) / 255


def compress(image: np.ndarray, quality: int) -> np.ndarray:
    """Write a uint8 RGB image (H, W, 3) as JPEG, and read it."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, 'JPEG', quality=quality)
    return np.asarray(Image.open(buffer))


def _to_pillow(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(image * 255).astype(np.uint8))
