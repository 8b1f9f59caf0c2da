# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data sets and transforms."""

from .collate import stack_samples
from .find_images import find_images
from .image_folder import ImageFolder
from .knn_splits import KNNSplits
from .transforms import (
    LoadImage,
    MaskGenerator,
    MultiCrop,
    PackMultiCrop,
    PhotometricAugmentation,
    SeedSample,
)

__all__ = [
    'PhotometricAugmentation',
    'MaskGenerator',
    'ImageFolder',
    'KNNSplits',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'SeedSample',
    'find_images',
    'stack_samples',
]
