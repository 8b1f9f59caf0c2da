# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing of checkpoints in folders, while the training goes on."""

import copy
import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from torch import Tensor

from ibot_mm.functional.shards import is_sharded

from .errors import CheckpointFileError, DiskFullError, is_disk_full, run_on_main
from .shards import REST
from .write import UNFINISHED, disk_full_message, raise_as_os_error, sync_folder, write_checkpoint


def split(value: Any, shards: dict[str, Tensor], name: str = '') -> Any:
    """Return content of a checkpoint with None in place of each tensor that processes share.

    Args:
        value: The content; it is not changed.
        shards: Gets those tensors, by their places, such as ``'state_dict.head.weight'``.
        name: Place of the value. Defaults to '', the whole.
    """
    if is_sharded(value):
        shards[name] = value
        return None
    if isinstance(value, Mapping):
        kept: Any = copy.copy(value)
        for key, entry in value.items():
            kept[key] = split(entry, shards, f'{name}.{key}' if name else str(key))
        return kept
    if isinstance(value, list):
        return [split(entry, shards, f'{name}.{i}') for i, entry in enumerate(value)]
    return value


def write_shards(
    content: Mapping[str, Any],
    path: Path,
    group: Any,
    add: Callable[[dict[str, Any]], None],
    completed: Callable[[], None],
) -> Callable[[], None]:
    """Begin to write a checkpoint folder; all processes must call it.

    Tensors are copied to the CPU, then the training may go on. The folder has its name when all of
    it is on the disk, not before.

    Args:
        content: What to save.
        path: The folder; an existing one is replaced.
        group: Of all processes, for nothing else, which works on the CPU.
        add: Adds to the rest, on the main process, before it is written.
        completed: Called when the folder is whole, on the main process, in another thread.

    Returns:
        To call on all processes before the next: waits until it is written, and raises a
        DiskFullError or CheckpointFileError, the same on all, if it is not.

    Raises:
        Exception: As of :func:`run_on_main`, by which the rest is written.
    """
    from torch.distributed.checkpoint import async_save
    from torch.distributed.checkpoint.api import CheckpointException

    shards: dict[str, Tensor] = {}
    rest = split(content, shards)
    unfinished = path.with_name(path.name + UNFINISHED)

    def begin() -> None:
        add(rest)
        if unfinished.exists():
            shutil.rmtree(unfinished)
        try:
            write_checkpoint(rest, unfinished / REST)
        except OSError as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not is_disk_full(error):
                raise
            raise DiskFullError(disk_full_message(path)) from error

    run_on_main(begin)
    future: Any = async_save(
        shards,
        storage_writer=_make_writer(unfinished, partial(_finish, unfinished, path, completed)),
        process_group=group,
    )

    def wait() -> None:
        try:
            future.result()
        except (Exception, CheckpointException) as error:
            if is_main_process():
                shutil.rmtree(unfinished, ignore_errors=True)
            causes = [cause for cause, _ in getattr(error, 'failures', {0: (error, 0)}).values()]
            if any(isinstance(cause, OSError) and is_disk_full(cause) for cause in causes):
                raise DiskFullError(disk_full_message(path)) from error
            raise CheckpointFileError(f'{path} was not saved: {causes[0]!r}') from error

    return wait


def _make_writer(unfinished: Path, finish: Callable[[], None]) -> Any:
    """Torch's writer of files, which calls ``finish`` on the main process at the end."""
    from torch.distributed.checkpoint import FileSystemWriter

    class Writer(FileSystemWriter):
        def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
            # Torch's own copies whole storages, and fails where a process has an empty part.
            return {n: tensor.detach().to('cpu', copy=True) for n, tensor in state_dict.items()}

        def write_data(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().write_data(*args, **kwargs)
            except RuntimeError as error:  # torch's, in place of the stream's own
                raise_as_os_error(error)

        def finish(self, *args: Any, **kwargs: Any) -> None:
            super().finish(*args, **kwargs)
            finish()

    return Writer(unfinished)


def _finish(unfinished: Path, path: Path, completed: Callable[[], None]) -> None:
    sync_folder(unfinished)
    before = path.with_name(f'{path.name}.deleted{UNFINISHED}')
    if path.exists():
        os.replace(path, before)
    os.replace(unfinished, path)
    sync_folder(path.parent)
    shutil.rmtree(before, ignore_errors=True)
    completed()


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint, file or folder; half a folder never has its name.

    Args:
        path: May be missing.
    """
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    condemned = path.with_name(f'{path.name}.deleted{UNFINISHED}')
    os.replace(path, condemned)
    shutil.rmtree(condemned)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed run left half-written or half-deleted. One process calls it.

    Args:
        folder: The folder of the checkpoints.
    """
    for path in folder.glob(f'*{UNFINISHED}'):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
