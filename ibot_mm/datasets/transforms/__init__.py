# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Transforms of the training pipeline, each usable alone in any mm config."""

from .corrupt import Corrupt
from .gaussian_noise import GaussianNoise
from .load_image import LoadImage
from .mask_generator import MaskGenerator
from .multi_crop import MultiCrop
from .normalize_channels import NormalizeChannels
from .pack_multi_crop import PackMultiCrop
from .photometric_augmentation import PhotometricAugmentation
from .resize_short_edge import ResizeShortEdge
from .reverse_channels import ReverseChannels

__all__ = [
    'Corrupt',
    'GaussianNoise',
    'NormalizeChannels',
    'ResizeShortEdge',
    'PhotometricAugmentation',
    'MaskGenerator',
    'LoadImage',
    'MultiCrop',
    'PackMultiCrop',
    'ReverseChannels',
]
