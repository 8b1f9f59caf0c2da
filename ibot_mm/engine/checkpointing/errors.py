# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Errors of saving and resuming, and how all processes meet the same one."""

import errno
from collections.abc import Callable
from typing import Any, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

T = TypeVar('T')


class CheckpointFileError(ValueError):
    """A checkpoint that cannot be read, written or used; says which, why, and the way out."""


class DiskFullError(OSError):
    """A checkpoint found no room; those before it are as they were."""


def is_disk_full(error: OSError) -> bool:
    """Tell whether an error says that the disk, or the user's share of it, is full."""
    return isinstance(error, DiskFullError) or error.errno in (errno.ENOSPC, errno.EDQUOT)


def run_on_main(function: Callable[[], T]) -> T:
    """Call a function on the main process alone; all processes get its result, or its error.

    Args:
        function: Its result can be pickled.

    Raises:
        Exception: On the main process what the function raised; on the others the same if it is an
            error of this file or a FloatingPointError, else a CheckpointFileError.
    """
    outcome: list[Any] = [None, None, None]
    error: Exception | None = None
    if is_main_process():
        try:
            outcome[0] = function()
        except Exception as caught:
            error = caught
            outcome = [None, type(caught).__name__, str(caught)]
    broadcast_object_list(outcome)
    result, kind, text = outcome
    if error is not None:
        raise error
    if kind is not None:
        known = (CheckpointFileError, DiskFullError, FloatingPointError)
        types = {error_type.__name__: error_type for error_type in known}
        raise types.get(kind, CheckpointFileError)(f'{text} (met by the main process: {kind})')
    return result
