# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""LMDB environments whose values are encoded images, as mmengine's LMDB backend reads them."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ibot_mm.datasets.store_error import StoreError

from .entries import kind_of_entry
from .files import FileState
from .index import NO_LABEL, ShardIndex, Texts
from .retries import EXTRA
from .store import ImageStore


class LMDBStore(ImageStore):
    """Images by key. The keys are the images' names, such as ``n01440764/n01440764_18.JPEG``."""

    suffixes = ('.lmdb', 'data.mdb')  # a folder by the one name, its file by the other
    is_sorted = True
    num_threads = 1  # an environment may be opened once by a process

    def state(self, path: str) -> FileState:
        """Look at the file of an environment, which may be a folder."""
        local = self.files.local(path)
        return self.files.state(str(data_file(local)))

    def count(self, path: str) -> ShardIndex:
        """List the keys."""
        passed_over: Counter[str] = Counter()
        names = []
        with open_environment(self.files.local(path)).begin() as transaction:
            keys = transaction.cursor().iternext(keys=True, values=False)
            for key in keys:
                name = key.decode('utf-8', 'surrogateescape')
                if kind := kind_of_entry(name, self.extensions):
                    passed_over[kind] += 1
                else:
                    names.append(name)
        return ShardIndex(
            Texts.of(names),
            np.zeros((len(names), 0), np.int64),
            np.full(len(names), NO_LABEL, np.int64),
            passed_over,
        )

    def read(self, path: str, name: str, location: tuple[int, ...]) -> bytes:
        """Read an image by its key."""
        with open_environment(self.files.local(path)).begin() as transaction:
            content = transaction.get(name.encode('utf-8', 'surrogateescape'))
        if content is None:
            raise StoreError(f'{path} has no key {name} any more: begin again')
        return content


def data_file(path: str) -> Path:
    """Return the file of an environment."""
    return Path(path, 'data.mdb') if os.path.isdir(path) else Path(path)


_environments: dict[str, Any] = {}


def open_environment(path: str) -> Any:
    """Open an environment to read it, once in this process.

    Raises:
        ImportError: lmdb is not installed.
        StoreError: It is not an environment, or is cut off.
    """
    if path not in _environments:
        _environments[path] = _open(path)
    return _environments[path]


def close_environments() -> None:
    """Close all: a forked process can neither use its parent's nor open the same ones again."""
    while _environments:
        _environments.popitem()[1].close()


os.register_at_fork(before=close_environments)


def _open(path: str) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ImportError(f'{path} needs lmdb: {EXTRA}') from error
    try:
        environment = lmdb.open(
            path,
            subdir=os.path.isdir(path),
            readonly=True,
            lock=False,
            readahead=False,
            meminit=False,
            max_readers=1024,
        )
    except lmdb.Error as error:
        raise StoreError(f'{path} is not an LMDB environment ({error}): copy it anew') from error
    file = data_file(path)
    needed = (environment.info()['last_pgno'] + 1) * environment.stat()['psize']
    if file.stat().st_size < needed:  # reading on would end the process
        environment.close()
        raise StoreError(
            f'{path} has {file.stat().st_size} of {needed} bytes: it is cut off; copy it anew'
        )
    return environment
