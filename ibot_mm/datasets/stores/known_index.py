# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Indices of shards, counted once and kept."""

import hashlib
import logging
import os
from pathlib import Path

from mmengine.logging import print_log

from .files import FileState
from .index import ShardIndex
from .local_copy import one_at_a_time
from .store import ImageStore

SUFFIX = '.index'  # of the file beside a shard


def index_of(
    path: str,
    store: ImageStore,
    folder: str | None,
) -> ShardIndex:
    """Return the index of a shard, counting only what is not known.

    An index beside the shard counts if its size is that of the shard: it is made to travel with
    it. One in the folder counts if size and time of change are the same.

    Args:
        path: The shard.
        store: Counts it.
        folder: Where indices are kept. Defaults to None: :func:`default_folder`.

    Returns:
        The index.
    """
    beside = store.files.read_if_there(path + SUFFIX)
    known = ShardIndex.from_bytes(beside) if beside is not None else None
    state = store.state(path)
    if known is not None and state.size in (known.state.size, -1):
        return known
    if beside is not None:
        print_log(
            f'{path}{SUFFIX} is not the index of this shard, which is counted anew',
            'current',
            logging.WARNING,
        )
    key = hashlib.blake2b(
        repr((_absolute(path), store.settings)).encode(), digest_size=16
    ).hexdigest()
    file = Path(folder or default_folder(), key + SUFFIX)
    if state.size >= 0 and (kept := _read(file, state)):
        return kept
    with one_at_a_time(file.with_name(f'.{file.name}.lock')):
        if state.size >= 0 and (kept := _read(file, state)):  # another process was faster
            return kept
        index = store.files.retries.call(f'counting {path}', lambda: store.count(path))
        index.state = state
        part = file.with_name(f'.{file.name}.part')
        part.write_bytes(index.to_bytes())
        os.replace(part, file)
    return index


def default_folder() -> str:
    """Return ``ibot_mm/index`` in the user's cache folder."""
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    return os.path.join(cache, 'ibot_mm', 'index')


def _read(file: Path, state: FileState) -> ShardIndex | None:
    index = ShardIndex.from_bytes(file.read_bytes()) if file.exists() else None
    return index if index is not None and index.state == state else None


def _absolute(path: str) -> str:
    return path if '://' in path or path.startswith('pipe:') else os.path.realpath(path)
