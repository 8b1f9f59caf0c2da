# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Zip files of images."""

import struct
import zipfile
import zlib
from collections import Counter

import numpy as np

from ibot_mm.datasets.store_error import StoreError
from ibot_mm.datasets.transforms.image_errors import BrokenImageError

from .entries import kind_of_entry
from .index import NO_LABEL, ShardIndex, Texts
from .store import ImageStore

METHODS = {zipfile.ZIP_STORED: 'stored', zipfile.ZIP_DEFLATED: 'deflated'}
ENCRYPTED = 1  # bit of the flags
LOCAL_HEADER = struct.Struct('<4s22xHH')


class ZipStore(ImageStore):
    """Images in zip files, in the order of a folder with the same names."""

    suffixes = ('.zip',)
    is_sorted = True

    def count(self, path: str) -> ShardIndex:
        """Read the directory at the end of a zip file."""
        passed_over: Counter[str] = Counter()
        names, locations = [], []
        try:
            with self.files.open(path) as file, zipfile.ZipFile(file) as archive:
                entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        except zipfile.BadZipFile as error:
            raise StoreError(f'{path} is cut off or damaged ({error}): copy it anew') from error
        for entry in entries:
            if kind := kind_of_entry(entry.filename, self.extensions):
                passed_over[kind] += 1
                continue
            if entry.compress_type not in METHODS or entry.flag_bits & ENCRYPTED:
                raise StoreError(
                    f'{path}: {entry.filename} is encrypted or compressed by method '
                    f'{entry.compress_type}: zip the images anew, best uncompressed (zip -0)'
                )
            names.append(entry.filename)
            place = entry.header_offset, entry.compress_size, entry.compress_type, entry.CRC
            locations.append(place)
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise StoreError(f'{path} has two images {twice}: zip the images anew')
        return ShardIndex(
            Texts.of(names),
            np.array(locations, np.int64).reshape(-1, 4),
            np.full(len(names), NO_LABEL, np.int64),
            passed_over,
        )

    def read(self, path: str, name: str, location: tuple[int, ...]) -> bytes:
        """Read an image and compare its checksum."""
        start, size, method, checksum = location
        signature, name_size, extra = LOCAL_HEADER.unpack(
            self.files.read(path, start, LOCAL_HEADER.size)
        )
        if signature != b'PK\x03\x04':
            raise StoreError(
                f'{path} has no entry at byte {start}, where its index says one: it was replaced '
                'after it was counted; begin again'
            )
        content = self.files.read(path, start + LOCAL_HEADER.size + name_size + extra, size)
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompress(content, -zlib.MAX_WBITS)
            except zlib.error as error:
                raise BrokenImageError(f'its zip entry is damaged ({error})') from error
        if zlib.crc32(content) != checksum:
            raise BrokenImageError('the checksum of its zip entry is wrong')
        return content
