# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Folders of images into tar shards, and back."""

from .encoding import Encoding
from .pack import PackReport, pack_images
from .unpack import unpack_images
from .verify import VerifyReport, verify_images

__all__ = [
    'Encoding',
    'PackReport',
    'VerifyReport',
    'pack_images',
    'unpack_images',
    'verify_images',
]
