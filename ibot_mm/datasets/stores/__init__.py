# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images in stores other than folders: tar shards, zip, LMDB, parquet; local or remote."""

from .datasets import LMDBImages, ParquetImages, TarImages, ZipImages
from .recognize import describe_images, describe_split
from .stored_images import StoredImages

__all__ = [
    'LMDBImages',
    'ParquetImages',
    'StoredImages',
    'TarImages',
    'ZipImages',
    'describe_images',
    'describe_split',
]
