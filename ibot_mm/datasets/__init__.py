# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data sets and transforms."""

from .collate import stack_samples
from .image_folder import ImageFolder
from .image_subset import ImageSubset
from .inaturalist import INaturalist
from .knn_splits import KNNSplits
from .repeated_augmentation import RepeatedAugmentationSampler
from .transforms import (
    LoadImage,
    MaskGenerator,
    MultiCrop,
    PackMultiCrop,
    PhotometricAugmentation,
    ReverseChannels,
    SeedSample,
)

__all__ = [
    'PhotometricAugmentation',
    'MaskGenerator',
    'INaturalist',
    'ImageFolder',
    'ImageSubset',
    'KNNSplits',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'RepeatedAugmentationSampler',
    'ReverseChannels',
    'SeedSample',
    'stack_samples',
]
