# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data sets, samplers and transforms."""

from .collate import stack_samples
from .find_images import find_images
from .image_folder import ImageFolder
from .knn_splits import KNNSplits
from .samplers import SeededBatchSampler
from .transforms import (
    LoadImage,
    MaskGenerator,
    MultiCrop,
    PackMultiCrop,
    PhotometricAugmentation,
)

__all__ = [
    'PhotometricAugmentation',
    'MaskGenerator',
    'ImageFolder',
    'KNNSplits',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'SeededBatchSampler',
    'find_images',
    'stack_samples',
]
