# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data sets, samplers and transforms."""

from .collate import stack_samples
from .find_images import find_images
from .image_folder import ImageFolder
from .image_subset import ImageSubset
from .inaturalist import INaturalist
from .knn_splits import KNNSplits
from .repeated_augmentation import RepeatedAugmentationSampler
from .samplers import SeededBatchSampler, ShardSampler
from .store_error import StoreError
from .stores import LMDBImages, ParquetImages, StoredImages, TarImages, ZipImages
from .transforms import (
    Corrupt,
    GaussianNoise,
    LoadImage,
    MaskGenerator,
    MultiCrop,
    NormalizeChannels,
    PackMultiCrop,
    PhotometricAugmentation,
    ResizeShortEdge,
    ReverseChannels,
)

__all__ = [
    'Corrupt',
    'GaussianNoise',
    'NormalizeChannels',
    'ResizeShortEdge',
    'PhotometricAugmentation',
    'MaskGenerator',
    'INaturalist',
    'ImageFolder',
    'ImageSubset',
    'KNNSplits',
    'LMDBImages',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'ParquetImages',
    'SeededBatchSampler',
    'ShardSampler',
    'StoreError',
    'StoredImages',
    'TarImages',
    'ZipImages',
    'find_images',
    'RepeatedAugmentationSampler',
    'ReverseChannels',
    'stack_samples',
]
