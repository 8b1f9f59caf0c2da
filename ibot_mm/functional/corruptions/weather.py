# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weather: snow, frost, fog, and spatters of rain or mud."""

import cv2
import numpy as np
from numpy.random import Generator

from .blur import along_line, enlarge_center, gaussian, length, scale

# Mean and deviation of the noise, size of flakes, threshold, length and deviation of their fall,
# share of the image that is not whitened.
SNOW = (
    (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
    (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
    (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
)
FROST = (1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)  # shares of image and frost
FOG = (1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)  # amount, decay from octave to octave
# Mean and deviation of the noise, its smoothness, threshold; strength of water, or smoothness of
# mud.
WATER = (0.65, 0.3, 4, 0.69, 0.6), (0.65, 0.3, 3, 0.68, 0.6), (0.65, 0.3, 2, 0.68, 0.5)
MUD = (0.65, 0.3, 1, 0.65, 1.5), (0.67, 0.4, 1, 0.65, 1.5)
WATER_COLOR = np.array([175, 238, 238]) / 255
MUD_COLOR = np.array([63, 42, 20]) / 255
ICE_COLOR = np.array([0.92, 0.97, 1.0])
SEEDS = 12  # of crystals
GRAY = np.array([0.299, 0.587, 0.114])  # luma of RGB


def snow(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Whiten the image, and let flakes fall from both sides."""
    mean, deviation, size, threshold, reach, sigma, share = SNOW[severity - 1]
    noise = random.normal(mean, deviation, image.shape[:2])
    flakes = enlarge_center(noise, max(1.0, size * scale(image)))
    flakes = np.where(flakes < threshold, 0, np.clip(flakes, 0, 1))
    flakes = along_line(flakes, reach, sigma, random.uniform(-135, -45))
    white = np.maximum(image, (image @ GRAY)[..., None] * 1.5 + 0.5)
    whitened = share * image + (1 - share) * white
    return whitened + (flakes + np.rot90(flakes, 2))[..., None]


def frost(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Lay crystals of ice over the image.

    ImageNet-C has photographs of frost, which this project does not have. These crystals are made
    here, with about the brightness and contrast of the photographs. Numbers on this corruption are
    not those of ImageNet-C: read it from disk for these.
    """
    of_image, of_frost = FROST[severity - 1]
    return of_image * image + of_frost * crystals(image.shape[:2], random)


def fog(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Add a cloud, and bring the brightest pixel back to where it was."""
    amount, decay = FOG[severity - 1]
    brightest = image.max()
    foggy = image + amount * cloud(image.shape[:2], decay, random)[..., None]
    return foggy * brightest / (brightest + amount)


def spatter(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Spatter water, and from severity 4 on mud."""
    if severity <= len(WATER):
        *settings, strength = WATER[severity - 1]
        drops = _shade(_liquid(image, settings, random))
        return image + strength * drops[..., None] * WATER_COLOR
    *settings, smoothness = MUD[severity - 1 - len(WATER)]
    covered = (_liquid(image, settings, random) > settings[3]).astype(np.float64)
    opacity = gaussian(covered, length(smoothness, image))
    opacity = np.where(opacity < 0.8, 0, opacity)[..., None]
    return image * (1 - opacity) + MUD_COLOR * opacity


def cloud(size: tuple[int, ...], decay: float, random: Generator) -> np.ndarray:
    """Make a cloud by the diamond-square algorithm, part of a map from 0 to 1.

    Args:
        size: Height and width in pixels.
        decay: From level to level the noise is divided by its square.
        random: Source of random numbers.
    """
    levels = int(np.ceil(np.log2(max(*size, 2))))
    heights = np.zeros((1, 1))
    for level in range(levels):
        heights = _refine(heights, decay ** (-2 * level), random)
    heights -= heights.min()
    return heights[: size[0], : size[1]] / heights.max()


def _refine(heights: np.ndarray, amount: float, random: Generator) -> np.ndarray:
    """Put points between those of a periodic map: means of four neighbors, and noise."""
    size = len(heights)
    noise = random.uniform(-amount, amount, (3, size, size))
    right, below = np.roll(heights, -1, 1), np.roll(heights, -1, 0)
    centers = (heights + right + below + np.roll(right, -1, 0)) / 4 + noise[0]
    finer = np.empty((2 * size, 2 * size))
    finer[::2, ::2], finer[1::2, 1::2] = heights, centers
    finer[::2, 1::2] = (heights + right + centers + np.roll(centers, 1, 0)) / 4 + noise[1]
    finer[1::2, ::2] = (heights + below + centers + np.roll(centers, 1, 1)) / 4 + noise[2]
    return finer


def crystals(size: tuple[int, ...], random: Generator) -> np.ndarray:
    """Make needles of ice around seeds, light blue, (H, W, 3), from 0 to 1."""
    rows, columns = np.mgrid[: size[0], : size[1]] / min(size)
    bend = 0.15 * (cloud(size, 1.4, random) - 0.5)
    seeds = random.uniform(-0.1, 1.1, (SEEDS, 2))
    down, right = (
        axis[..., None] - seed + bend[..., None] for axis, seed in zip((rows, columns), seeds.T)
    )
    nearest = np.hypot(down, right).argmin(axis=2)[..., None]
    down, right = (np.take_along_axis(part, nearest, axis=2)[..., 0] for part in (down, right))
    distance = np.hypot(down, right)
    angle = np.arctan2(down, right) + random.uniform(0, 6, SEEDS)[nearest[..., 0]]
    needles = np.cos(9 * angle) ** 8 + 0.6 * np.cos(23 * angle + 5 * distance) ** 6
    grain = cloud(size, 1.15, random)
    ice = 0.2 + 0.4 * needles / (1 + 2 * distance) + 0.45 * grain
    return ice[..., None] * ICE_COLOR


def _liquid(image: np.ndarray, settings: list[float], random: Generator) -> np.ndarray:
    mean, deviation, smoothness, threshold = settings
    sigma = length(smoothness, image)
    # Less noise where it is smoothed over fewer pixels, such that as much is above the threshold.
    noise = random.normal(mean, deviation * sigma / smoothness, image.shape[:2])
    layer = gaussian(noise, sigma)
    return np.where(layer < threshold, 0, layer)


def _shade(liquid: np.ndarray) -> np.ndarray:
    """Give drops a light and a dark side, from 0 to 1."""
    pixels = (liquid * 255).astype(np.uint8)
    distance = cv2.distanceTransform(255 - cv2.Canny(pixels, 50, 150), cv2.DIST_L2, 5)
    relief = cv2.equalizeHist(cv2.blur(np.minimum(distance, 20), (3, 3)).astype(np.uint8))
    light = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])  # from the upper left
    lit = cv2.blur(cv2.filter2D(relief, cv2.CV_8U, light), (3, 3))
    shaded = pixels.astype(np.float64) * lit
    return shaded / max(shaded.max(), 1)
