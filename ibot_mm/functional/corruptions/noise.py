# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Noise: Gaussian, shot, impulse, speckle."""

import numpy as np
from numpy.random import Generator

GAUSSIAN = 0.08, 0.12, 0.18, 0.26, 0.38  # standard deviation
SHOT = 60, 25, 12, 5, 3  # photons of a white pixel
IMPULSE = 0.03, 0.06, 0.09, 0.17, 0.27  # share of values
SPECKLE = 0.15, 0.2, 0.35, 0.45, 0.6  # standard deviation, of a white pixel


def gaussian_noise(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Add normal noise."""
    return image + random.normal(scale=GAUSSIAN[severity - 1], size=image.shape)


def shot_noise(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Count photons."""
    photons = SHOT[severity - 1]
    return random.poisson(image * photons) / photons


def impulse_noise(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Set values, each channel for itself, to 0 or 1."""
    place = random.random(image.shape) / IMPULSE[severity - 1]  # below 1 where there is noise
    return np.where(place < 1, place < 0.5, image)


def speckle_noise(image: np.ndarray, severity: int, random: Generator) -> np.ndarray:
    """Add normal noise in proportion to the values."""
    return image + image * random.normal(scale=SPECKLE[severity - 1], size=image.shape)
