# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Real images that come inside scikit-learn and scikit-image, split into train and val."""

from dataclasses import dataclass

import numpy as np
from skimage import color, data
from sklearn.datasets import load_digits, load_sample_image

# Fraction of each class of digits, and of the width of each photograph, that is for training.
TRAIN_FRACTION = {'digits': 0.75, 'photographs': 0.65}

# Photographs that ship inside the scikit-image wheel: nothing is downloaded for them.
SKIMAGE_PHOTOGRAPHS = (
    'astronaut',
    'brick',
    'camera',
    'chelsea',
    'coffee',
    'coins',
    'grass',
    'gravel',
    'rocket',
)


@dataclass(frozen=True)
class DigitSource:
    """Handwritten digits of one split.

    Args:
        images: Ink of the digits, float32 (N, 8, 8) in 0..1.
        labels: The digits' classes, int64 (N,).
        indices: Rows of the digits in ``sklearn.datasets.load_digits``, int64 (N,).
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray


@dataclass(frozen=True)
class Photograph:
    """The region of a photograph that belongs to one split.

    Args:
        name: Name of the photograph.
        columns: First and one past the last column of the region in the photograph.
        image: The region, uint8 (H, W, 3) RGB.
    """

    name: str
    columns: tuple[int, int]
    image: np.ndarray


def load_digit_source(split: str) -> DigitSource:
    """Load the 8x8 handwritten digits of one split.

    Neighbors in the data set tend to be by the same writer, so each class is cut once, in that
    order: training and validation share no digit, and few writers if any.

    Args:
        split: 'train' or 'val'.

    Returns:
        The digits of the split, all ten classes.
    """
    digits = load_digits()
    chosen = []
    for label in range(10):
        rows = np.flatnonzero(digits.target == label)
        cut = round(len(rows) * TRAIN_FRACTION['digits'])
        chosen.append(rows[:cut] if split == 'train' else rows[cut:])
    indices = np.concatenate(chosen)
    images = (digits.images[indices] / 16).astype(np.float32)
    return DigitSource(images, digits.target[indices].astype(np.int64), indices)


def load_photographs(split: str) -> list[Photograph]:
    """Load the regions of the photographs that belong to one split.

    Each photograph is cut once from top to bottom: the left part is for training, the right part
    for validation.

    Args:
        split: 'train' or 'val'.

    Returns:
        One region for each photograph.
    """
    images = {name: getattr(data, name)() for name in SKIMAGE_PHOTOGRAPHS}
    images |= {name: load_sample_image(f'{name}.jpg') for name in ('china', 'flower')}
    regions = []
    for name, image in sorted(images.items()):
        image = image if image.ndim == 3 else color.gray2rgb(image)
        width = image.shape[1]
        cut = round(width * TRAIN_FRACTION['photographs'])
        columns = (0, cut) if split == 'train' else (cut, width)
        regions.append(Photograph(name, columns, image[:, slice(*columns)]))
    return regions
