# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Reading of whole training checkpoints, without running what they hold."""

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.logging.history_buffer import HistoryBuffer as _HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint_to_model
from torch import Tensor, nn

try:
    from numpy._core import multiarray
except ImportError:  # before numpy 2
    from numpy.core import multiarray  # type: ignore[no-redef]

from .errors import CheckpointFileError
from .shards import REST, fill_in, find_fault_of_shards, read_shards

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'  # understood by every torch.load


class _Inert:
    """Takes the place of a function or class that a checkpoint names and nobody needs."""

    def __new__(cls, *args: Any, **kwargs: Any) -> '_Inert':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


class _History(_Inert):
    """Takes the place of mmengine's ``HistoryBuffer``, whose ``__setstate__`` would also change
    the class by what the file says."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.values = state.get('_log_history', ())
        self.counts = state.get('_count_history', ())

    def buffer(self) -> HistoryBuffer:
        """Return the history, as mmengine's class."""
        return HistoryBuffer(np.asarray(self.values), np.asarray(self.counts))


# What checkpoints of mmengine hold beside tensors and plain values. Those of this package hold
# nothing of it. Arrays and numbers of numpy are data; everything else is replaced.
_ARRAYS: list[Any] = [np.ndarray, np.dtype] + [
    type(np.dtype(kind)) for kind in ('f2', 'f4', 'f8', 'i1', 'i2', 'i4', 'i8', 'u1', 'u2', 'b1')
]
_ARRAY_FUNCTIONS = [
    (function, f'numpy.{package}.multiarray.{name}')
    for name, function in (
        ('_reconstruct', multiarray._reconstruct),
        ('scalar', multiarray.scalar),
    )
    for package in ('core', '_core')  # before and since numpy 2
]
_REPLACED = [
    (_History, f'{_HistoryBuffer.__module__}.{_HistoryBuffer.__name__}'),
    (_Inert, 'builtins.getattr'),
    (_Inert, 'builtins.slice'),
]
_ALLOWED: list[Any] = [*_ARRAYS, *_ARRAY_FUNCTIONS, *_REPLACED]


def force_safe_loading() -> None:
    """Keep ``torch.load`` of this process and its children from running code of a file, for good.

    Tools call it first. It also binds the loaders of mmengine and torch.hub, by which for example
    ``init_cfg=dict(type='Pretrained')`` reads, and which on their own fall back to unpickling.
    """
    os.environ[FORCE] = '1'
    os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None)
    torch.serialization.add_safe_globals(_ALLOWED)


@contextmanager
def safe_loading() -> Iterator[None]:
    """Do for a while what :func:`force_safe_loading` does."""
    before = os.environ.get(FORCE)
    force_safe_loading()
    try:
        yield
    finally:
        if before is None:
            del os.environ[FORCE]


def find_fault(path: str | Path) -> str | None:
    """Say what is wrong with a checkpoint, or None.

    Each record of the file is read and compared with its checksum (the CRC-32 that torch writes).

    Args:
        path: A file of this machine, or a folder of shards.
    """
    path = Path(path)
    if path.is_dir():
        fault = find_fault(path / REST)
        return f'has a {REST} that {fault}' if fault else find_fault_of_shards(path)
    if not path.is_file():
        return 'is not there'
    if path.stat().st_size == 0:
        return 'is empty'
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        return f'is not complete ({error})'
    return None if bad is None else f'is damaged (checksum of its record {bad})'


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read everything in a checkpoint, on the CPU; nothing in it is run.

    Args:
        path: A file, checked by :func:`find_fault` where it is a zip file, as torch's are; a
            folder of shards, which come back as whole tensors; or an address or model name that
            mmengine knows, such as ``'https://...'``.

    Returns:
        Its content. Log histories are ``HistoryBuffer`` again.

    Raises:
        CheckpointFileError: If the file is not there, damaged, or holds more than data.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        if fault := find_fault(file):
            raise CheckpointFileError(f'Checkpoint {path} {fault}.')
        content = read_checkpoint(file / REST)
        fill_in(content, read_shards(file))
        return content
    is_remote = re.match(r'[\w-]+://', str(path)) is not None
    if not is_remote:
        old_format = file.is_file() and file.open('rb').read(1) == b'\x80'
        if not old_format and (fault := find_fault(file)):
            raise CheckpointFileError(f'Checkpoint {path} {fault}.')
    try:
        content = _load_remote(str(path)) if is_remote else _load(file)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        raise CheckpointFileError(
            f'Checkpoint {path} is refused: it holds more than data'
            f'{f", namely {found[1]}," if found else ""} and would run code when loaded. If you '
            'trust its origin, load it by torch.load(..., weights_only=False) and save its state '
            'dict alone.'
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, IndexError) as error:
        raise CheckpointFileError(f'Checkpoint {path} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise CheckpointFileError(
            f'Checkpoint {path} holds a {type(content).__name__}, not weights by their names.'
        )
    hub = content.get('message_hub')
    if isinstance(hub, dict) and isinstance(hub.get('log_scalars'), dict):
        for name, history in hub['log_scalars'].items():
            if isinstance(history, _History):
                hub['log_scalars'][name] = history.buffer()
    return content


def _load(file: Path) -> Any:
    # Older torch knows no list; there, only checkpoints of this package can be read.
    allow = getattr(torch.serialization, 'safe_globals', lambda _: nullcontext())
    with allow(_ALLOWED), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return torch.load(file, map_location='cpu', weights_only=True)


def _load_remote(address: str) -> Any:
    with safe_loading():
        return CheckpointLoader.load_checkpoint(address, map_location='cpu')


def load_weights(model: nn.Module, path: str | Path, strict: bool = False) -> dict[str, Any]:
    """Take the place of mmengine's ``load_checkpoint``: read safely, then load the weights.

    Args:
        model: The model.
        path: As of :func:`read_checkpoint`.
        strict: Whether all names and shapes must fit. Defaults to False: the log lists what does
            not.

    Returns:
        Content of the checkpoint.

    Raises:
        CheckpointFileError: As of :func:`read_checkpoint` and :func:`use_weights`.
    """
    content = read_checkpoint(path)
    use_weights(model, content, path, strict)
    return content


def use_weights(
    model: nn.Module, content: dict[str, Any], path: str | Path, strict: bool = False
) -> None:
    """Load the weights of a checkpoint that was read.

    Args:
        model: The model.
        content: See :func:`read_checkpoint`.
        path: For the message.
        strict: As of :func:`load_weights`. Defaults to False.

    Raises:
        CheckpointFileError: If no weight fits, or, where ``strict``, any does not.
    """
    given = content.get('state_dict', content)
    shapes = {
        name.removeprefix('module.'): tensor.shape
        for name, tensor in given.items()
        if isinstance(tensor, Tensor)
    }
    expected = model.state_dict()
    if not any(shapes.get(name) == tensor.shape for name, tensor in expected.items()):
        raise CheckpointFileError(
            f'{path} has no weight of the model: it names {next(iter(shapes), "nothing")!r} and '
            f'the like, the model {next(iter(expected), "nothing")!r} and the like.'
        )
    try:
        _load_checkpoint_to_model(model, content, strict, revise_keys=[(r'^module\.', '')])
    except RuntimeError as error:  # of strict
        raise CheckpointFileError(f'{path} does not fit the model. {error}') from error
