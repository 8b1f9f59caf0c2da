# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The images that are packed: of a folder, or of another store."""

import hashlib
import os
from dataclasses import dataclass
from typing import Any

from mmengine.registry import DATASETS

from ibot_mm.datasets.counted import counted
from ibot_mm.datasets.find_images import find_images
from ibot_mm.datasets.stores import describe_images


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
        source: A folder of images or a store, see :func:`describe_images`.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: It has no images, or is not a store.
    """
    config = describe_images(source)
    if config['type'] != 'ibot_mm.ImageFolder':
        return _open_store(config)
    found = find_images(source)
    if not found.images:
        raise ValueError(f'{source} has no images to pack: {found}')
    labels, classes = None, []
    if all('/' in name for name in found.images):
        classes = found.folders
        numbers = {folder: number for number, folder in enumerate(classes)}
        labels = [numbers[name.split('/')[0]] for name in found.images]
    return Source(found.images, labels, classes, source, None, str(found))


def _open_store(config: dict[str, Any]) -> Source:
    dataset: Any = DATASETS.build(config)
    names = [name.removeprefix('/') for name in dataset.sample_names()]
    about = counted(len(names), 'image') + ' in ' + counted(len(dataset.shards), 'shard')
    try:
        labeled: Any = DATASETS.build(dict(config, with_label=True))
    except ValueError:  # it has no labels
        return Source(names, None, [], '', dataset, about)
    infos = (labeled.get_data_info(number) for number in range(len(labeled)))
    by_path = {info['img_path']: info['gt_label'] for info in infos}
    paths = (dataset.get_data_info(number)['img_path'] for number in range(len(dataset)))
    classes = list(labeled.metainfo['classes'])
    return Source(names, [by_path[path] for path in paths], classes, '', dataset, about)
