# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing of checkpoints: whole or not at all, and of plain data only."""

import os
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

UNFINISHED = '.unfinished'  # suffix of a file that is being written


def write_checkpoint(content: Mapping[str, Any], path: str | Path) -> None:
    """Write a checkpoint so that its name never stands for half a file.

    It is written under another name, forced to the disk, renamed, and the folder is forced to the
    disk as well. torch stores a checksum with each record.

    Args:
        content: See :func:`plain`.
        path: A file of this machine; an existing one is replaced.

    Raises:
        OSError: For example if the disk is full; ``path`` then is as before.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(unfinished, 'wb') as stream:
            try:
                torch.save(plain(content), stream)
            except RuntimeError as error:  # torch's, in place of the stream's own
                raise_as_os_error(error)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(text: str, path: str | Path) -> None:
    """Write a small text file, whole or not at all.

    Args:
        text: Its content.
        path: The file.
    """
    path = Path(path)
    unfinished = path.with_name(path.name + UNFINISHED)
    with open(unfinished, 'w') as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, path)
    sync_folder(path.parent)


def plain(value: Any) -> Any:
    """Reduce to tensors on the CPU, numbers, texts, and lists, tuples and dicts of them.

    Such a checkpoint is readable without an allow-list by every torch. Numbers and arrays of numpy
    become Python's; anything else becomes its text.

    Args:
        value: Content of a checkpoint.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, Mapping):
        pairs = [(plain(key), plain(entry)) for key, entry in value.items()]
        if type(value) is not OrderedDict:
            return dict(pairs)
        ordered = OrderedDict(pairs)
        if hasattr(value, '_metadata'):  # of a state dict: versions of its modules
            ordered._metadata = plain(value._metadata)  # type: ignore[attr-defined]
        return ordered
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple | set | frozenset):
        entries = [plain(entry) for entry in value]
        return entries if isinstance(value, list) else tuple(entries)
    if value is None or type(value) in (bool, int, float, complex, str, bytes):
        return value
    for base in (bool, int, float, str):
        if isinstance(value, base):
            return base(value)
    return str(value)


def raise_as_os_error(error: RuntimeError) -> NoReturn:
    """Raise the error of the disk behind one of torch's writer, or that one if there is none."""
    cause = error.__context__
    while cause is not None:
        if isinstance(cause, OSError):
            raise cause
        cause = cause.__context__
    raise error


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to the disk."""
    if os.name != 'posix':
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_full_message(path: Path) -> str:
    """Say that a checkpoint found no room, and what to do."""
    return (
        f'{path} was not saved, the disk is full; earlier checkpoints are whole. Make room, for '
        'example by a smaller default_hooks.checkpoint.max_keep_ckpts, and go on by --resume.'
    )
