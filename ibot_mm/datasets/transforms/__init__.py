# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Transforms of the training pipeline, each usable alone in any mm config."""

from .draw_augmentation import DrawAugmentation
from .draw_masks import DrawMasks
from .load_image import LoadImage
from .multi_crop import MultiCrop
from .pack_multi_crop import PackMultiCrop
from .seed_sample import SeedSample

__all__ = [
    'DrawAugmentation',
    'DrawMasks',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'SeedSample',
]
