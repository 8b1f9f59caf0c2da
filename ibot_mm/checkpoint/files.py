# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Reading checkpoint files, without running what they hold."""

import json
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from .errors import CheckpointError
from .locations import find_file

# What known checkpoints hold beside tensors: settings, logs, states of schedules. None of it is
# needed, so all of it becomes `_Nothing`, and not even these functions and classes are run.
_HARMLESS = (
    'argparse.Namespace',
    'builtins.bytes',
    'builtins.getattr',
    'builtins.slice',
    'datetime.datetime',
    'datetime.timedelta',
    'mmengine.logging.history_buffer.HistoryBuffer',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy.dtype',
    'numpy.ndarray',
    'pathlib.Path',
    'pathlib.PosixPath',
    'pathlib.PurePosixPath',
    'pathlib.WindowsPath',
)

# What is stored in place of a checkpoint, by how it begins.
_MISTAKEN = (
    (b'version https://git-lfs', 'a git-lfs pointer: fetch the file itself by `git lfs pull`'),
    (b'<', 'a web page: the address needs a login or leads to a page about the file'),
    (b'{', 'JSON, not weights'),
    (b'\x1f\x8b', 'an archive: unpack it'),
    (b'\x93NUMPY', 'a NumPy array, not a checkpoint'),
)
# The same, by torch's error.
_NOT_OF_TORCH = {
    'TorchScript': 'a TorchScript program: save the state dict of its module instead',
    'magic number': 'a pickle, but none of torch: save its weights by torch.save',
}
_ZIP, _PICKLE = b'PK\x03\x04', b'\x80'


class _Nothing:
    """Stands for what is not needed."""

    def __new__(cls, *args: Any, **kwargs: Any) -> '_Nothing':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_checkpoint_file(path: str | Path) -> dict[str, Tensor]:
    """Read all tensors of a checkpoint, on the CPU.

    Args:
        path: A file of torch (``.pth``, ``.pt``, ``.bin``; also of its old format) or safetensors,
            known by its content, not by its name; a folder of Hugging Face's with weights in one
            or several files; an ``http(s)://`` address, kept in torch's cache; or a model of an
            mm package, such as ``'mmpretrain::mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k'``.

    Returns:
        Tensors by their path within the file, such as ``'teacher.module.backbone.cls_token'``;
        states of optimizers and whatever else is no tensor under text keys are left out.

    Raises:
        CheckpointError: If the file is not there, is no checkpoint, is damaged, would run code or
            holds no tensors.
    """
    file = find_file(path)
    if file.name.endswith('.index.json'):
        return _read_shards(file)
    return _read(file)


def read_config(path: str | Path) -> dict[str, Any]:
    """The ``config.json`` of Hugging Face's beside weights; empty where there is none.

    Args:
        path: As of :func:`load_checkpoint_file`.
    """
    file = find_file(path).with_name('config.json')
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def read_meta(path: str | Path) -> dict[str, Any]:
    """What mmengine, and tools of this project, store beside weights; empty where there is nothing.

    Args:
        path: As of :func:`load_checkpoint_file`.

    Returns:
        For example ``cfg``, the text of the training's config. Objects of classes are left out.
    """
    file = find_file(path)
    start = _start(file)
    meta = None
    if _is_safetensors(start):
        with safe_open(file, 'pt') as opened:
            text = (opened.metadata() or {}).get('meta', '')
        try:
            meta = json.loads(text)
        except ValueError:
            pass  # of another tool
    elif start.startswith(_ZIP):
        content = _read_torch(file, mmap=True)
        meta = content.get('meta') if isinstance(content, Mapping) else None
    return meta if isinstance(meta, dict) else {}


def _read_shards(index: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(json.loads(index.read_text())['weight_map'].values())):
        shard = index.with_name(name)
        if not shard.is_file():
            raise CheckpointError(f"{index} names '{name}', which is not there: get all files.")
        tensors |= _read(shard)
    return tensors


def _start(file: Path) -> bytes:
    with open(file, 'rb') as stream:
        return stream.read(64)


def _is_safetensors(start: bytes) -> bool:
    """They begin with the length of a header of JSON, whose bytes may be anything."""
    return start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < 10**8


def _read(file: Path) -> dict[str, Tensor]:
    start = _start(file)
    text = start.lstrip(b'\xef\xbb\xbf \r\n\t')
    if not text:
        raise CheckpointError(f'{file} is empty: download or save it again.')
    if _is_safetensors(start):
        content = _read_safetensors(file)
    elif start.startswith((_ZIP, _PICKLE)):
        content = _read_torch(file)
    else:
        for beginning, what in _MISTAKEN:
            if text.startswith(beginning):
                raise CheckpointError(f'{file} is {what}.')
        raise CheckpointError(
            f'{file} is neither a checkpoint of torch nor of safetensors; it begins with '
            f'{start[:16]!r}.'
        )
    tensors = dict(_flatten(content))
    if not tensors:
        held = ', '.join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f'{file} holds no weights of a network, only: {held}.')
    return tensors


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except SafetensorError as error:
        raise _damaged(file, error) from error


def _read_torch(file: Path, mmap: bool = False) -> Any:
    harmless = [(_Nothing, name) for name in _HARMLESS]
    # Older torch knows no allow-list; it refuses all that is not a tensor.
    safe_globals = getattr(torch.serialization, 'safe_globals', lambda _: nullcontext())
    try:
        with safe_globals(harmless), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.load(file, map_location='cpu', weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL ([\w.]+)|unrecognized function|Can only', str(error))
        if found is None:
            raise _damaged(file, error) from error
        what = f', namely {found[1]},' if found[1] else ''
        raise CheckpointError(
            f'{file} is refused: it holds more than weights{what} and would run code when loaded. '
            'If you trust its origin, load it by torch.load(..., weights_only=False) and save its '
            'state dict alone.'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        for sign, what in _NOT_OF_TORCH.items():
            if sign in str(error):
                raise CheckpointError(f'{file} is {what}.') from error
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> CheckpointError:
    found = re.search(r'WeightsUnpickler error: (.*)', str(error))  # amid advice of torch's
    reason = found[1] if found else str(error).split('\n')[0]
    return CheckpointError(
        f'{file} ({file.stat().st_size} bytes) is damaged or not complete: download or copy it '
        f'again. {type(error).__name__}: {reason}'
    )


def _flatten(content: Any, path: str = '') -> Iterator[tuple[str, Tensor]]:
    """Tensors under text keys, but of optimizers."""
    if not isinstance(content, Mapping):
        return
    for key, value in content.items():
        if not isinstance(key, str) or key in ('optimizer', 'optimizer_state_dict'):
            continue
        if isinstance(value, Tensor):
            yield path + key, value
        else:
            yield from _flatten(value, f'{path}{key}.')
