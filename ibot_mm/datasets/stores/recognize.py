# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which data set reads what lies at a place: a folder of images, or a store of them."""

import glob
import os
from collections.abc import Sequence
from typing import Any

from ibot_mm.datasets.find_images import EXTENSIONS, find_images

from .datasets import LMDBImages, ParquetImages, TarImages, ZipImages
from .files import PIPE, RANGE, is_remote
from .pack_list import NAME
from .stored_images import StoredImages

BY_SUFFIX: dict[str, type[StoredImages]] = {
    '.tar': TarImages,
    '.zip': ZipImages,
    '.lmdb': LMDBImages,
    '.mdb': LMDBImages,
    '.parquet': ParquetImages,
    '.arrow': ParquetImages,
}
ADVICE = (
    'give a folder of images, or a store of them: tar shards or a folder of them, '
    f'or what ends in {", ".join(list(BY_SUFFIX)[1:])}; see docs/data_at_scale.md'
)


def describe_images(place: str, extensions: Sequence[str] = EXTENSIONS) -> dict[str, Any]:
    """Return the config of the data set that reads a place, recognized by what is there.

    A folder that holds an image is a folder of images, also where archives lie beside it.

    Args:
        place: Folder of images; shard, or folder of them; address, glob or numbered names of
            shards, such as ``train-{000000..000146}.tar``; ``pipe:`` and a command.
        extensions: Endings of images' names. Defaults to all that can be decoded as RGB.

    Returns:
        ``type`` and ``data_root`` of :class:`~ibot_mm.datasets.ImageFolder` or of the store.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: It is a file of another kind, or a folder of several kinds of stores.
    """
    store = _store_at(os.path.expanduser(place), tuple(extensions))
    name = 'ImageFolder' if store is None else store.__name__
    return dict(type=f'ibot_mm.{name}', data_root=place)


def describe_split(
    root: str, name: str, extensions: Sequence[str] = EXTENSIONS
) -> dict[str, Any] | None:
    """Return the config of a split: ``ROOT/train``, ``ROOT/train.zip`` or ``ROOT/train-*.tar``.

    Args:
        root: Folder of the splits, or address.
        name: Of the split.
        extensions: As of :func:`describe_images`.

    Returns:
        ``type``, ``data_root`` (ROOT) and ``data_prefix``; None if there is no such split.

    Raises:
        ValueError: As of :func:`describe_images`.
    """
    found = _find_split(root.rstrip('/'), name)
    if found is None:
        return None
    config = describe_images(f'{root.rstrip("/")}/{found}', extensions)
    return dict(config, data_root=root, data_prefix=found)


def _find_split(root: str, name: str) -> str | None:
    inside = f'{root}/{name}'
    if is_remote(root) or os.path.isdir(inside):
        return name
    for suffix in BY_SUFFIX:
        if os.path.exists(inside + suffix):
            return name + suffix
        if glob.glob(f'{glob.escape(inside)}-*{suffix}'):
            return f'{name}-*{suffix}'
    return None


def _store_at(place: str, extensions: tuple[str, ...]) -> type[StoredImages] | None:
    """Say which data set of stores reads a place; None for a folder of images."""
    by_name = BY_SUFFIX.get(os.path.splitext(place.rstrip('/'))[1].lower())
    if is_remote(place) or RANGE.search(place) or place.startswith(PIPE):
        return by_name or TarImages
    if os.path.isdir(place):
        return _store_in(place, extensions)
    if os.path.exists(place) or glob.glob(place):
        if by_name is None:
            raise ValueError(f'{place} is neither a folder nor a store: {ADVICE}')
        return by_name
    raise FileNotFoundError(f'there is no folder {place}, and no store: {ADVICE}')


def _store_in(folder: str, extensions: tuple[str, ...]) -> type[StoredImages] | None:
    if os.path.isfile(os.path.join(folder, 'data.mdb')):
        return LMDBImages
    if os.path.isfile(os.path.join(folder, NAME)):
        return TarImages
    found = find_images(folder, extensions, at_most=1)
    if found.images:
        return None
    kinds = {BY_SUFFIX[kind] for kind in found.passed_over if kind in BY_SUFFIX}
    if len(kinds) > 1:
        names = ', '.join(sorted(kind for kind in found.passed_over if kind in BY_SUFFIX))
        raise ValueError(f'{folder} holds several kinds of stores ({names}): name one of them')
    return next(iter(kinds), None)
