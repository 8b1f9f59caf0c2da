# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tar shards, as webdataset, ``ibot-mm pack`` and tar write them."""

import json
import tarfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import BinaryIO

import numpy as np

from ibot_mm.datasets.store_error import StoreError

from .entries import kind_of_entry
from .index import NO_LABEL, ShardIndex, Texts
from .store import ImageStore

BLOCK = tarfile.BLOCKSIZE
LABEL, ABOUT = 'cls', 'json'  # extensions of a sample's label, and of what packing notes
MAX_NOTE = 2**16  # bytes; a larger json is not one of packing


class TarStore(ImageStore):
    """Images in plain tar files. An image is read as one range of bytes."""

    suffixes = ('.tar',)

    def count(self, path: str) -> ShardIndex:
        """Go through the headers of a shard."""
        entries = _Entries(path, self.extensions)
        with self.files.open(path) as file:
            try:
                with tarfile.open(fileobj=file, mode='r:') as tar:
                    for member in tar:  # tar.next() fails on an empty shard before Python 3.11
                        entries.add(tar, member)
                        tar.members = []  # type: ignore[attr-defined]  # which would grow by 1 KB each
                    _check_end(path, file, tar.offset, entries.last)
            except tarfile.TarError as error:
                after = f' after {entries.last}' if entries.last else ''
                raise StoreError(
                    f'{path} is cut off, damaged or compressed{after} ({error}): copy or pack it '
                    'anew; .tar.gz must be unpacked to .tar, since images are read in any order'
                ) from error
        return entries.to_index()

    def read(self, path: str, name: str, location: tuple[int, ...]) -> bytes:
        """Read an image and the header before it, which must be what the index says."""
        start, size = location
        content = self.files.read(path, start - BLOCK, BLOCK + size)
        try:
            header = tarfile.TarInfo.frombuf(content[:BLOCK], 'utf-8', 'surrogateescape')
            found = header.size
        except tarfile.HeaderError:
            found = -1
        if found != size:
            raise StoreError(
                f'{path} does not have the image that its index says at byte {start}: the shard '
                f'was replaced after it was counted. Remove {path}.index if there is one, and '
                'begin again, so that it is counted anew'
            )
        return content[BLOCK:]


@dataclass
class _Entries:
    """Members of a shard, joined by key in any order."""

    path: str
    extensions: tuple[str, ...]
    names: dict[str, str] = field(default_factory=dict)  # of images by member, in order
    locations: list[tuple[int, int]] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)  # by key
    origins: dict[str, str] = field(default_factory=dict)  # by key
    passed_over: Counter[str] = field(default_factory=Counter)
    last: str = ''

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = self.last = member.name.removeprefix('./')
        if member.isdir():
            return
        if not member.isfile():
            self.passed_over['link or device'] += 1
            return
        key, extension = split_name(name)
        if extension == LABEL:
            self.labels[key] = self._read_label(tar, member)
        elif extension == ABOUT:
            self._read_note(tar, member, key)
        elif kind := kind_of_entry(name, self.extensions):
            self.passed_over[kind] += 1
        elif name in self.names:
            raise StoreError(f'{self.path} has two images {name}: pack it anew')
        else:
            self.names[name] = key
            self.locations.append((member.offset_data, member.size))

    def _read_label(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
        file = tar.extractfile(member)
        text = file.read().decode(errors='replace').strip() if file else ''
        if not text.isdigit():
            raise StoreError(f'{self.path}: {member.name} is {text[:40]!r}, not a class number')
        return int(text)

    def _read_note(self, tar: tarfile.TarFile, member: tarfile.TarInfo, key: str) -> None:
        """Note the name that an image had before it was packed."""
        file = tar.extractfile(member) if member.size <= MAX_NOTE else None
        try:
            note = json.loads(file.read()) if file else None
        except ValueError:
            note = None
        if isinstance(note, dict) and isinstance(note.get('path'), str):
            self.origins[key] = note['path']
        else:
            self.passed_over['.json'] += 1

    def to_index(self) -> ShardIndex:
        keys = set(self.names.values())
        without = len((self.labels.keys() | self.origins.keys()) - keys)
        if without:
            self.passed_over['sample without an image'] = without
        labels = [self.labels.get(key, NO_LABEL) for key in self.names.values()]
        return ShardIndex(
            Texts.of(self.origins.get(key, name) for name, key in self.names.items()),
            np.array(self.locations, np.int64).reshape(-1, 2),
            np.array(labels, np.int64),
            self.passed_over,
        )


def split_name(name: str) -> tuple[str, str]:
    """Split a member's name as webdataset does: key, and extension from the first dot on."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition('.')
    return name[: len(name) - len(path.name)] + stem, extension.lower()


def _check_end(path: str, file: BinaryIO, end: int, last: str) -> None:
    """Python's reader takes a damaged header, or a file that just ends, for the end."""
    file.seek(end)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        raise StoreError(
            f'{path} is cut off after {last or "its beginning"}: it has no end mark. Copy or pack '
            'it anew'
        )
    if any(block):
        raise StoreError(f'{path} is damaged at byte {end}, after {last}: copy or pack it anew')
