# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Blur: Gaussian, defocus, glass, motion, zoom."""

import cv2
import numpy as np
from numpy.random import Generator

SIZE = 224  # pixels of the shorter side that lengths are given for
FINEST = 0.4  # pixels, a blur that an image of few pixels shows; CIFAR-10-C starts from it

GAUSSIAN = 1.0, 2.0, 3.0, 4.0, 6.0  # standard deviation
DEFOCUS = (3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)  # radius, softness of the edge
# Standard deviation, displacement, passes.
GLASS = (0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)
MOTION = (10, 3), (15, 5), (15, 8), (15, 12), (20, 15)  # half length, standard deviation
ZOOM = (1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)  # end, step


def gaussian_blur(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Blur by a Gaussian."""
    return gaussian(image, length(GAUSSIAN[severity - 1], image))


def defocus_blur(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Blur by a disk, as a lens out of focus does."""
    radius, softness = (length(pixels, image) for pixels in DEFOCUS[severity - 1])
    reach = int(np.ceil(max(radius, 8 * scale(image))))
    offsets = np.arange(-reach, reach + 1)
    disk = (offsets**2 + offsets[:, None] ** 2 <= radius**2).astype(np.float64)
    side = 3 if radius <= 8 else 5
    disk = cv2.GaussianBlur(disk / disk.sum(), (side, side), softness)
    return cv2.filter2D(image, -1, disk)


def glass_blur(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Let each pixel take the value of a random neighbor, between two slight blurs.

    Pixels follow each other from the last to the first, so that values move on. Where two pixels
    were to be swapped, the images of ImageNet-C have the neighbor's value twice; so have these.
    """
    softness, displacement, passes = GLASS[severity - 1]
    sigma = length(softness, image)
    reach = max(1, round(displacement * scale(image)))
    blurred = gaussian(image, sigma)
    height, width = image.shape[:2]
    places = np.arange(height * width).reshape(height, width)
    inside = places[reach + 1 : height - reach + 1, reach + 1 : width - reach + 1][::-1, ::-1]
    sources = places.flatten().tolist()
    for _ in range(passes):
        down, right = random.integers(-reach, reach, size=(2, *inside.shape))
        neighbors = np.minimum(inside + down * width + right, places.size - 1)
        for place, neighbor in zip(inside.flatten().tolist(), neighbors.flatten().tolist()):
            sources[place] = sources[neighbor]
    moved = blurred.reshape(-1, 3)[sources].reshape(image.shape)
    return gaussian(moved, sigma)


def motion_blur(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Blur along a line, at up to 45 degrees from the horizontal."""
    return along_line(image, *MOTION[severity - 1], random.uniform(-45, 45))


def zoom_blur(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Average the image with its centers, made larger step by step."""
    end, step = ZOOM[severity - 1]
    zoomed = [enlarge_center(image, factor) for factor in np.arange(1, end, step)]
    return (image + sum(zoomed)) / (len(zoomed) + 1)


def scale(image: np.ndarray) -> float:
    """Shorter side in units of ImageNet-C's."""
    return min(image.shape[:2]) / SIZE


def length(pixels: float, image: np.ndarray) -> float:
    """Bring a length of ImageNet-C to the size of an image.

    Smaller images keep a trace of the resampling that made them small, in quadrature.
    """
    return float(np.hypot(pixels * scale(image), FINEST * max(0.0, 1 - scale(image))))


def gaussian(image: np.ndarray, sigma: float, border: int = cv2.BORDER_REPLICATE) -> np.ndarray:
    """Blur by a Gaussian cut off at 4 standard deviations."""
    side = 2 * int(4 * sigma + 0.5) + 1
    return cv2.GaussianBlur(image, (side, side), sigma, borderType=border)


def along_line(image: np.ndarray, radius: float, sigma: float, angle: float) -> np.ndarray:
    """Blur to one side along a line, with the falling half of a Gaussian.

    Args:
        image: Shape (H, W) or (H, W, 3).
        radius: Half of the pixels that are averaged, for images of 224 pixels.
        sigma: Standard deviation, likewise.
        angle: Of the line, degrees from the horizontal.
    """
    steps = np.arange(2 * int(np.ceil(length(radius, image))) + 1)
    weights = np.exp(-(steps**2) / (2 * length(sigma, image) ** 2))
    columns = np.rint(steps * np.cos(np.deg2rad(angle))).astype(int)
    rows = np.rint(steps * np.sin(np.deg2rad(angle))).astype(int)
    kernel = np.zeros((2 * len(steps) - 1, 2 * len(steps) - 1))
    np.add.at(kernel, (len(steps) - 1 + rows, len(steps) - 1 + columns), weights / weights.sum())
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def enlarge_center(image: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge an image about its center, linearly, and cut it to its size."""
    height, width = image.shape[:2]
    back = np.array(
        [
            [1 / factor, 0, (width - 1) / 2 * (1 - 1 / factor)],
            [0, 1 / factor, (height - 1) / 2 * (1 - 1 / factor)],
        ]
    )
    return cv2.warpAffine(
        image, back, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    )
