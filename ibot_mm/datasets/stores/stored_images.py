# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What the data sets of all kinds of stores have in common."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from ibot_mm.datasets.counted import counted
from ibot_mm.datasets.find_images import EXTENSIONS
from ibot_mm.datasets.named_steps import list_steps
from ibot_mm.datasets.replacement import ReplaceSkipped

from .files import PIPE, StoreFiles, is_remote
from .index import NO_LABEL
from .known_index import index_of
from .pack_list import PackList
from .retries import Retries
from .store import ImageStore, StoredImage
from .table import ImageTable


class StoredImages(ReplaceSkipped, BaseDataset):
    """Images of shards, with the samples, draws and exact resume of :class:`ImageFolder`.

    Any image can be read at any time, so that every sampler works as with a folder, and workers and
    processes need no shards of their own. What a shard holds is counted once and kept.

    Args:
        data_root: Folder or address before ``data_prefix``. Defaults to ''.
        data_prefix: A shard, a folder of shards, a glob, or numbered names such as
            ``train-{000000..000146}.tar``. Defaults to ''.
        with_label: Give labels: those that the shards hold, or else the folders in the images'
            names. Defaults to False: pre-training needs none.
        pipeline (dict | list): As of :class:`ImageFolder`; it loads by :class:`LoadImage`.
        extensions: Endings of images' names. Defaults to all that can be decoded.
        cache_dir: Local folder for whole copies of remote shards, each made once, when it is first
            needed. Defaults to None: byte ranges are read where the shard lies.
        index_dir: Folder for what was counted. Defaults to None: ``ibot_mm/index`` in the user's
            cache folder.
        storage_options: Of fsspec's file system, such as ``dict(anon=True)`` for public S3.
        attempts: Tries of each request. Defaults to 4.
        timeout: Seconds of each try. Defaults to 60.
        **kwargs: As in mmpretrain's ``BaseDataset``: ``metainfo``, ``indices``, ``test_mode`` ...

    Raises:
        ValueError: No place is given; the pipeline loads by another transform; there is no image,
            or a label is missing.
        FileNotFoundError: There is no such shard.
        StoreError: A shard is damaged, or the store does not answer.
    """

    store_class: type[ImageStore]

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | Mapping[str, str] = '',
        with_label: bool = False,
        pipeline: Mapping[str, Any] | Sequence[Any] = (),
        extensions: Sequence[str] = EXTENSIONS,
        cache_dir: str | None = None,
        index_dir: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        attempts: int = 4,
        timeout: float = 60.0,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if not (data_root or data_prefix):
            raise ValueError(
                f'{name}: data_root is empty: give the shards, a folder of them or an address, '
                "such as 'shards/train' or 'https://host/train-{000000..000146}.tar'"
            )
        if isinstance(data_prefix, Mapping):  # as configs of mmpretrain write it
            data_prefix = data_prefix.get('img_path', '')
        self.place = _join(data_root, data_prefix)
        self.with_label = with_label
        self._index_dir = index_dir
        self.shards: list[str] = []
        self._like_folder = self.store_class.is_sorted
        options = {k: v for k, v in (storage_options or {}).items() if k != '_scope_'}
        files = StoreFiles(Retries(attempts, timeout), options, cache_dir)
        self.store = self._make_store(files, tuple(extensions))
        kwargs['serialize_data'] = False  # the table is arrays already
        super().__init__(ann_file='', pipeline=list_steps(pipeline), **kwargs)
        for step in self.pipeline.transforms:
            if isinstance(step, LoadImageFromFile) and not getattr(step, 'reads_stores', False):
                raise ValueError(
                    f'{name}: {type(step).__name__} reads files only: load by '
                    "dict(type='ibot_mm.LoadImage')"
                )

    def _make_store(self, files: StoreFiles, extensions: tuple[str, ...]) -> ImageStore:
        return self.store_class(files, extensions)

    def load_data_list(self) -> list[dict]:
        """Find the images.

        Returns:
            The table of images, which behaves as a list of dicts with ``img_path`` and, if labels
            are read, ``gt_label``.
        """
        name = type(self).__name__
        self.shards = shards = self._find_shards()
        with ThreadPoolExecutor(min(self.store.num_threads, len(shards))) as pool:
            indices = list(pool.map(lambda p: index_of(p, self.store, self._index_dir), shards))
        passed_over = sum((index.passed_over for index in indices), Counter())
        others = ', '.join(f'{number} {kind}' for kind, number in passed_over.most_common())
        table = ImageTable.of(shards, indices)
        print_log(
            f'{name} {self.place}: {counted(len(table), "image")} in '
            f'{counted(len(shards), "shard")}, {passed_over.total()} other entries passed over'
            + (others and f' ({others})'),
            'current',
        )
        if empty := [p for p, index in zip(shards, indices, strict=True) if not len(index)]:
            print_log(
                f'{name} {self.place}: no image in {counted(len(empty), "shard")}, such as '
                f'{empty[0]}',
                'current',
                logging.WARNING,
            )
        if not len(table):
            raise ValueError(
                f'{name}: no image in the shards of {self.place} ({others or "empty"}); extensions '
                f'looked for: {", ".join(sorted(self.store.extensions))}'
            )
        table = self._label(table) if self.with_label else table.with_labels(None)
        return cast(list[dict], self._sort(table) if self._like_folder else table)

    def _find_shards(self) -> list[str]:
        files, suffixes = self.store.files, self.store.suffixes
        pack = PackList.read(files, self.place, suffixes)
        if pack is None:
            return files.expand(self.place, suffixes)
        if self.with_label and pack.classes:
            self._metainfo.setdefault('classes', tuple(pack.classes))
        self._like_folder = True  # the names are those of the folder that was packed
        shards = pack.paths(self.place)
        missing = [path for path in shards if not is_remote(path) and not os.path.exists(path)]
        if missing:
            raise FileNotFoundError(
                f'{self.place} lacks {len(missing)} of {len(shards)} shards, such as {missing[0]}: '
                'run ibot-mm pack again, which goes on where it ended, or copy what is missing'
            )
        return shards

    def _label(self, table: ImageTable) -> ImageTable:
        """Give labels that the shards hold, or else the numbers of the folders."""
        name, labels = type(self).__name__, cast(np.ndarray, table.labels)
        without = np.flatnonzero(labels == NO_LABEL)
        if 0 < len(without) < len(labels):
            raise ValueError(
                f'{name}: {len(without)} of {len(labels)} images have no label, such as '
                f'{table[int(without[0])]["img_path"]}: pack them anew, or set with_label=False'
            )
        if len(without):
            classes, labels = self._folders(table)
        else:
            names = self.store.class_names(table.shards[0])
            classes = tuple(names or map(str, range(int(labels.max()) + 1)))
        known = self._metainfo.setdefault('classes', classes)
        if labels.max() >= len(known) or (len(without) and len(classes) != len(known)):
            raise ValueError(
                f'{name}: {self.place} has {len(classes)} classes, metainfo {len(known)}'
            )
        return table.with_labels(labels)

    def _folders(self, table: ImageTable) -> tuple[tuple[str, ...], np.ndarray]:
        parts = [table.names[row].split('/', 1) for row in range(len(table))]
        if loose := [part[0] for part in parts if len(part) < 2]:
            raise ValueError(
                f'{type(self).__name__}: with_label=True, but {len(loose)} images of {self.place}, '
                f'such as {loose[0]}, have neither a label nor a class folder'
            )
        folders = sorted({folder for folder, _ in parts})
        numbers = {folder: number for number, folder in enumerate(folders)}
        return tuple(folders), np.array([numbers[folder] for folder, _ in parts], np.int64)

    def _sort(self, table: ImageTable) -> ImageTable:
        """Put images into the order of a folder with the same names."""

        def place(row: int) -> tuple[str, ...]:
            name = table.names[row]
            return tuple(name.split('/', 1)) if self.with_label else (name,)

        return table.take(np.array(sorted(range(len(table)), key=place), np.int64))

    def get_data_info(self, idx: int) -> dict:
        """Return what is known of an image, with ``img_file``, by which it is read."""
        info = super().get_data_info(idx)
        shard, name, location = info.pop('stored')
        info['img_file'] = StoredImage(self.store, self.shards[shard], name, location)
        return info

    def get_gt_labels(self) -> np.ndarray:
        """Return the labels of all images, (N,)."""
        self.full_init()
        table = self.data_list
        if isinstance(table, ImageTable) and table.labels is not None:
            return table.labels
        return super().get_gt_labels()

    def fingerprint(self) -> str:
        """Return a hash of the images' names, places and labels."""
        self.full_init()
        table = self.data_list
        if isinstance(table, ImageTable):
            return table.fingerprint()
        text = repr([(info['stored'], info.get('gt_label')) for info in table])
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def content_fingerprint(self) -> str:
        """Return a hash of the images and of size and time of change of their shards.

        Shards may move: their names do not count.
        """
        digest = hashlib.blake2b(self.fingerprint().encode(), digest_size=16)
        for shard in self.shards:
            state = self.store.state(shard)
            digest.update(f'{state.size} {state.version}\n'.encode())
        return digest.hexdigest()

    def sample_names(self) -> list[str]:
        """Return the names of all images within their shards.

        They begin with the shard's name where two would be the same.
        """
        self.full_init()
        stored = [self.data_list[number]['stored'] for number in range(len(self))]
        names = [name for _, name, _ in stored]
        if len(set(names)) == len(names):
            return names
        stems = [os.path.splitext(os.path.basename(shard.rstrip('/')))[0] for shard in self.shards]
        return [f'{stems[shard]}/{name}' for shard, name, _ in stored]

    def has_images(self, number: int) -> bool:
        """Tell whether there are so many; what is counted for it is kept.

        Args:
            number: At least 1.

        Raises:
            ValueError, FileNotFoundError, StoreError: There is none, as when the data set is used.
        """
        return len(self.load_data_list()) >= number

    def extra_repr(self) -> list[str]:
        """Name the place."""
        return [f'Shards: \t{self.place}']


def _join(root: str, name: str) -> str:
    if name.startswith((PIPE, '/')) or '://' in name or not root or not name:
        return os.path.expanduser(name or root)
    return os.path.expanduser(f'{root.rstrip("/")}/{name}')
