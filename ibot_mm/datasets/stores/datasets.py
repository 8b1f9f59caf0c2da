# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The registered data sets, one for each kind of store."""

from typing import Any

from ibot_mm.registry import DATASETS

from .files import StoreFiles
from .lmdb import LMDBStore
from .parquet import TableStore
from .store import ImageStore
from .stored_images import StoredImages
from .tar import TarStore
from .zip import ZipStore


@DATASETS.register_module()
class TarImages(StoredImages):
    """Images of tar shards in webdataset's layout, with :class:`ImageFolder`'s samples and draws.

    A sample is ``000001.jpg`` with ``000001.cls``, its class number, in any order within its
    shard; names with class folders will do as well. Images stand in the shards' order. Arguments
    are those of :class:`StoredImages`.
    """

    store_class = TarStore


@DATASETS.register_module()
class ZipImages(StoredImages):
    """Images of zip files, which are those of the folder that was zipped, in the same order.

    Arguments are those of :class:`StoredImages`.
    """

    store_class = ZipStore


@DATASETS.register_module()
class LMDBImages(StoredImages):
    """Encoded images of LMDB environments, whose keys are the names, in the order of a folder.

    Keys without an extension need ``extensions=()``. Arguments are those of :class:`StoredImages`.
    """

    store_class = LMDBStore


@DATASETS.register_module()
class ParquetImages(StoredImages):
    """Encoded images of parquet or Arrow files, as data sets of Hugging Face are stored.

    Parquet decodes a whole group of rows to read one image. Where images are drawn in any order,
    use ``sampler=dict(type='ibot_mm.ShardSampler')``, Arrow files, or pack them as tar shards.

    Args:
        image_column (str): Encoded images, as bytes or as ``{bytes, path}``. Defaults to 'image'.
        label_column (str): Class numbers. Defaults to 'label'.
        **kwargs: As :class:`StoredImages`.
    """

    def __init__(
        self, *args: Any, image_column: str = 'image', label_column: str = 'label', **kwargs: Any
    ) -> None:
        self._columns = image_column, label_column
        super().__init__(*args, **kwargs)

    store_class = TableStore

    def _make_store(self, files: StoreFiles, extensions: tuple[str, ...]) -> ImageStore:
        return TableStore(files, extensions, *self._columns)
