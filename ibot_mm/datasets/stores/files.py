# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Files of a store, local or remote: which there are, how large, and their bytes."""

import glob
import os
import re
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, BinaryIO

from ibot_mm.datasets.store_error import StoreError

from .local_copy import copy_once
from .retries import EXTRA, Retries

PIPE = 'pipe:'
MAX_OPEN = 256  # descriptors of one process
RANGE = re.compile(r'\{(\d+)\.\.(\d+)\}')
VERSION_KEYS = ('ETag', 'etag', 'LastModified', 'last_modified', 'mtime', 'created')


@dataclass(frozen=True)
class FileState:
    """What tells two states of a file apart.

    Args:
        size: In bytes; -1 where it is not known before the file is read.
        version: Time of its last change, or what a store has for it; '' for none.
    """

    size: int
    version: str = ''


@dataclass
class StoreFiles:
    """Files by path, address or command.

    Addresses are all that fsspec knows (``https://``, ``s3://``, ``gs://`` ...). ``pipe:COMMAND``
    stands for what a shell command writes.

    Args:
        retries: How often a store is asked.
        storage_options: Of fsspec's file system, such as ``dict(anon=True)``.
        cache_dir: Local folder that keeps a whole copy of each remote file. Defaults to None: parts
            are read where they lie.
    """

    retries: Retries = Retries()
    storage_options: dict[str, Any] = field(default_factory=dict)
    cache_dir: str | None = None
    _open: dict[str, int] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), '_open': {}}

    def expand(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        """List the files that a pattern means.

        Args:
            pattern: A file, a folder, a glob, or names with numbers, such as
                ``train-{000000..000146}.tar``.
            suffixes: Endings of a folder's files.

        Returns:
            Paths in order; sorted where the pattern does not give an order.

        Raises:
            FileNotFoundError: If there is none.
        """
        if RANGE.search(pattern):
            return expand_numbers(pattern)
        if pattern.startswith(PIPE):
            return [pattern]
        found = self._find(pattern, suffixes)
        if not found:
            raise FileNotFoundError(
                f'no {" or ".join(suffixes)} file at {pattern}: give a file, a folder of them, a '
                'glob, or numbers as in train-{000000..000146}.tar'
            )
        return found

    def _find(self, pattern: str, suffixes: tuple[str, ...]) -> list[str]:
        if not is_remote(pattern):
            if os.path.isfile(pattern) or (pattern.endswith(suffixes) and os.path.isdir(pattern)):
                return [pattern]
            if not os.path.isdir(pattern):
                found = glob.glob(pattern, recursive=True)
                return sorted(path for path in found if path.endswith(suffixes))
            inside = glob.glob(os.path.join(glob.escape(pattern), '**'), recursive=True)
            found = sorted(path for path in inside if path.endswith(suffixes))
            return [path for path in found if not os.path.dirname(path).endswith(suffixes)]
        if pattern.endswith(suffixes) and '*' not in pattern:
            return [pattern]
        system, path = self._system(pattern)
        search = system.glob if '*' in pattern else system.find
        names = self.retries.call(f'listing {pattern}', lambda: search(path))
        return [system.unstrip_protocol(n) for n in sorted(names) if n.endswith(suffixes)]

    def state(self, path: str) -> FileState:
        """Look up size and version of a file.

        Raises:
            StoreError: If it is not there, or the store does not answer.
        """
        if path.startswith(PIPE):
            return self._local_state(self.local(path))
        if not is_remote(path):
            return self._local_state(path)
        system, name = self._system(path)
        info = self.retries.call(
            f'looking up {path}', lambda: system.info(name, **self._limit(system))
        )
        if info.get('size') is None:
            return FileState(-1)
        versions = (str(info[key]) for key in VERSION_KEYS if info.get(key))
        return FileState(int(info['size']), next(versions, ''))

    def _local_state(self, path: str) -> FileState:
        status = self.retries.call(f'looking up {path}', lambda: os.stat(path))
        return FileState(status.st_size, str(status.st_mtime_ns))

    def read(self, path: str, start: int, length: int) -> bytes:
        """Read a part of a file.

        Args:
            path: The file.
            start: First byte.
            length: Number of bytes.

        Returns:
            All of them.

        Raises:
            StoreError: If there are fewer, or the store does not answer.
        """
        local = self._local_or_none(path)
        request = f'reading bytes {start} to {start + length} of {path}'
        if local is not None:
            return self.retries.call(request, lambda: self._read_local(local, start, length))
        system, name = self._system(path)

        def ask() -> bytes:
            content = system.cat_file(name, start=start, end=start + length, **self._limit(system))
            if len(content) > length:
                raise StoreError(
                    f'{path}: the store sends whole files only, not the {length} bytes that were '
                    'asked for: set cache_dir of the data set, which copies each shard once'
                )
            if len(content) < length:
                raise EOFError(f'got {len(content)} of {length} bytes')
            return content

        return self.retries.call(request, ask)

    def _read_local(self, path: str, start: int, length: int) -> bytes:
        if path not in self._open:
            if len(self._open) >= MAX_OPEN:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[path] = os.open(path, os.O_RDONLY)
        # One descriptor serves all forked workers: a positional read moves no file pointer.
        content = os.pread(self._open[path], length, start)
        while len(content) < length:
            more = os.pread(self._open[path], length - len(content), start + len(content))
            if not more:
                raise StoreError(
                    f'{path} ends {length - len(content)} bytes before the end of an image: it is '
                    'cut off, or was replaced; copy it anew'
                )
            content += more
        return content

    def read_if_there(self, path: str) -> bytes | None:
        """Read a whole small file; None if there is none."""
        if path.startswith(PIPE):
            return None
        if not is_remote(path):
            return Path(path).read_bytes() if os.path.isfile(path) else None
        system, name = self._system(path)
        try:
            return self.retries.call(
                f'reading {path}', lambda: system.cat_file(name, **self._limit(system))
            )
        except StoreError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def open(self, path: str) -> BinaryIO:
        """Open a file to read it from its beginning to its end, or from place to place."""
        local = self._local_or_none(path)
        if local is not None:
            return open(local, 'rb')
        system, name = self._system(path)
        return system.open(name, 'rb')

    def local(self, path: str) -> str:
        """Return the path of a file on this machine, which is copied where it lies elsewhere.

        Raises:
            StoreError: If it lies elsewhere and there is no ``cache_dir``, or cannot be copied.
        """
        if not is_remote(path):
            return path.removeprefix('file://')
        if self.cache_dir is None:
            raise StoreError(
                f'{path} must be copied to this machine to be read: set cache_dir of the data set '
                'to a folder with room for it'
            )
        return copy_once(path, self.cache_dir, self.retries, self._system)

    def _local_or_none(self, path: str) -> str | None:
        if is_remote(path) and self.cache_dir is None and not path.startswith(PIPE):
            return None
        return self.local(path)

    def _system(self, path: str) -> tuple[Any, str]:
        """Return fsspec's file system of an address, and the name in it."""
        try:
            from fsspec.core import url_to_fs

            return url_to_fs(path, **self.storage_options)
        except (ImportError, ValueError) as error:
            raise ImportError(
                f'{path} cannot be reached ({error}): {EXTRA}, and the package of fsspec for this '
                'kind of store, such as s3fs or gcsfs'
            ) from error

    def _limit(self, system: Any) -> dict[str, float]:
        """Time limit of a request, which asynchronous file systems take."""
        return dict(timeout=self.retries.timeout) if getattr(system, 'async_impl', False) else {}


def is_remote(path: str) -> bool:
    """Tell whether a path is an address or a command."""
    return path.startswith(PIPE) or ('://' in path and not path.startswith('file://'))


def expand_numbers(pattern: str) -> list[str]:
    """Expand ``a-{00..12}.tar`` to thirteen names, numbers as wide as they are written."""
    parts = RANGE.split(pattern)
    texts, firsts, lasts = parts[::3], parts[1::3], parts[2::3]
    numbers = [
        [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        for first, last in zip(firsts, lasts, strict=True)
    ]
    if not all(numbers):
        raise ValueError(f'{pattern} has an empty range of numbers: write {{first..last}}')
    names = []
    for chosen in product(*numbers):
        pairs = zip(texts, [*chosen, ''], strict=True)
        names.append(''.join(text + number for text, number in pairs))
    return names
