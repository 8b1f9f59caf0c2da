# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The images that are packed: of a folder, or of another store."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from ibot_mm.datasets.find_images import find_images
from ibot_mm.datasets.stores.datasets import (
    LMDBImages,
    ParquetImages,
    StoredImages,
    TarImages,
    ZipImages,
)

BY_SUFFIX: dict[str, type[StoredImages]] = {
    '.tar': TarImages,
    '.zip': ZipImages,
    '.lmdb': LMDBImages,
    '.mdb': LMDBImages,
    '.parquet': ParquetImages,
    '.arrow': ParquetImages,
}


@dataclass
class Source:
    """Images in a stable order.

    Args:
        names: With folders and slashes.
        labels: Number of the class of each; None without classes.
        classes: Their names.
        root: Folder of the names; '' for a store.
        dataset: The store; None for a folder.
        about: What else was found, as a text.
    """

    names: list[str]
    labels: list[int] | None
    classes: list[str]
    root: str = ''
    dataset: Any = None
    about: str = ''

    def read(self, number: int) -> bytes:
        """Read the encoded image."""
        if self.dataset is None:
            with open(os.path.join(self.root, self.names[number]), 'rb') as file:
                return file.read()
        return self.dataset.get_data_info(number)['img_file'].read_bytes()

    def fingerprint(self) -> str:
        """Return a hash of the names in their order."""
        text = '\0'.join(self.names).encode('utf-8', 'surrogateescape')
        return hashlib.blake2b(text, digest_size=16).hexdigest()


def open_source(source: str) -> Source:
    """Find the images of a folder or a store.

    Images that all lie in folders are of the classes of these folders.

    Args:
        source: A folder of images, or what the data sets of stores take, ending in .tar, .zip,
            .lmdb, .parquet or .arrow.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: It has no images.
    """
    suffix = os.path.splitext(source)[1]
    if suffix in BY_SUFFIX:
        return _open_store(source, BY_SUFFIX[suffix])
    if not os.path.isdir(source):
        raise FileNotFoundError(
            f'there is no folder {source}: give a folder of images, or a store that ends in '
            f'{", ".join(BY_SUFFIX)}'
        )
    found = find_images(source)
    if not found.images:
        raise ValueError(f'{source} has no images to pack: {found}')
    labels, classes = None, []
    if all('/' in name for name in found.images):
        classes = found.folders
        numbers = {folder: number for number, folder in enumerate(classes)}
        labels = [numbers[name.split('/')[0]] for name in found.images]
    return Source(found.images, labels, classes, source, None, str(found))


def _open_store(source: str, dataset_class: type[StoredImages]) -> Source:
    dataset = dataset_class(source)
    paths = [dataset.get_data_info(number)['img_path'] for number in range(len(dataset))]
    names = [path.removeprefix('/') for path in _relative(paths, dataset.shards)]
    about = f'{len(names)} images in {len(dataset.shards)} shards'
    try:
        labeled = dataset_class(source, with_label=True)
    except ValueError:  # it has no labels
        return Source(names, None, [], '', dataset, about)
    infos = (labeled.get_data_info(number) for number in range(len(labeled)))
    by_path = {info['img_path']: info['gt_label'] for info in infos}
    classes = list(labeled.metainfo['classes'])
    return Source(names, [by_path[path] for path in paths], classes, '', dataset, about)


def _relative(paths: list[str], shards: list[str]) -> list[str]:
    """Names within their shard; with the shard's name, where two would be the same."""
    starts = {shard: f'{shard}/' for shard in shards}
    shard_of = [next(s for s, start in starts.items() if path.startswith(start)) for path in paths]
    names = [path[len(shard) + 1 :] for path, shard in zip(paths, shard_of, strict=True)]
    if len(set(names)) == len(names):
        return names
    stems = [os.path.splitext(os.path.basename(shard))[0] for shard in shard_of]
    return [f'{stem}/{name}' for stem, name in zip(stems, names, strict=True)]
