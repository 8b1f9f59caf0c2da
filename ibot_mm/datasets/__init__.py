# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data sets and transforms."""

from .collate import stack_samples
from .image_folder import ImageFolder
from .knn_splits import KNNSplits
from .transforms import (
    DrawAugmentation,
    DrawMasks,
    LoadImage,
    MultiCrop,
    PackMultiCrop,
    SeedSample,
)

__all__ = [
    'DrawAugmentation',
    'DrawMasks',
    'ImageFolder',
    'KNNSplits',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'SeedSample',
    'stack_samples',
]
