# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What checkpoint files hold, read without running any of it."""

import json
import pickle
import re
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from .locate import CheckpointError
from .pickles import read_distributed, read_pickle

# What known checkpoints hold beside tensors: settings, logs, states of schedules. None of it is
# needed, so all of it becomes `_Nothing`, and not even these functions and classes are run.
_HARMLESS = (
    'argparse.Namespace',
    'builtins.bytes',
    'builtins.getattr',
    'builtins.set',
    'builtins.slice',
    'datetime.datetime',
    'datetime.timedelta',
    'deepspeed.runtime.fp16.loss_scaler.LossScaler',
    'deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler',
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
    'pathlib._local.Path',  # as Python 3.13 names them
    'pathlib._local.PosixPath',
    'pathlib._local.PurePosixPath',
    'pathlib._local.WindowsPath',
)

# What is stored in place of a checkpoint, by how it begins.
_MISTAKEN = (
    (b'version https://git-lfs', 'a git-lfs pointer: fetch the file itself by `git lfs pull`'),
    (b'<', 'a web page: the address needs a login or leads to a page about the file'),
    (b'{', 'JSON, not weights'),
    (b'\x1f\x8b', 'an archive: unpack it'),
    (b'\x93NUMPY', 'a NumPy array, not a checkpoint'),
)
_SCRIPT = 'a TorchScript program: save the state dict of its module instead'
_FOREIGN_ZIPS = (  # by a name within the archive
    (
        r'(^|/)(archive_format|serialized_exported_program\.json|models/.*\.json)$',
        'a program of torch.export (.pt2), as tools/model_converters/export_onnx.py writes it, '
        'which has no names of a checkpoint: give the checkpoint that it was made from',
    ),
    (r'(^|/)constants\.pkl$|/code/', _SCRIPT),
    (r'\.npy$', "NumPy's .npz: save its arrays as a state dict by torch.save"),
)
# Beside a checkpoint of torch.distributed.checkpoint, as trainings of this project write it.
_REST = 'training.pth'
_STATES = ('optimizer.', 'gradients.')  # of such a training, not read
_ZIP, _PICKLE = b'PK\x03\x04', b'\x80'
_OLD_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'  # a pickle of its magic number


class _Nothing:
    """Stands for what is not needed."""

    def __new__(cls, *args: Any, **kwargs: Any) -> '_Nothing':
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_content(file: Path) -> tuple[Any, dict[str, Any]]:
    """Read a file of any kind of checkpoint, on the CPU.

    Args:
        file: As from :func:`find_file`.

    Returns:
        What it holds, tensors in nested dicts; and what safetensors or mmengine store beside them.

    Raises:
        CheckpointError: If it is not a checkpoint, is damaged or would run code.
    """
    if file.name.endswith('.index.json'):
        return _read_shards(file), {}
    if file.name == '.metadata':
        tensors = read_distributed(file, _STATES)
        beside = file.with_name(_REST)
        rest, rest_meta = read_content(beside) if beside.is_file() else ({}, {})
        return rest | tensors, rest_meta
    with open(file, 'rb') as stream:
        start = stream.read(64)
    text = start.lstrip(b'\xef\xbb\xbf \r\n\t')
    if not text:
        raise CheckpointError(f'{file} is empty: download or save it again.')
    if start[8:9] == b'{' and int.from_bytes(start[:8], 'little') < 10**8:
        return _read_safetensors(file)  # which begin with the length of a header of JSON
    if start.startswith(_PICKLE) and not start.startswith(_OLD_TORCH):
        return read_pickle(file), {}
    if start.startswith((_ZIP, _PICKLE)):
        content = _read_torch(file, start.startswith(_ZIP))
        meta = content.get('meta') if isinstance(content, dict) else None
        return content, meta if isinstance(meta, dict) else {}
    for beginning, what in _MISTAKEN:
        if text.startswith(beginning):
            raise CheckpointError(f'{file} is {what}.')
    raise CheckpointError(
        f'{file} is neither a checkpoint of torch nor of safetensors; it begins with '
        f'{start[:16]!r}.'
    )


def _read_shards(index: Path) -> dict[str, Any]:
    try:
        names = set(json.loads(index.read_text())['weight_map'].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'{index} is not an index of files with weights, which has a `weight_map`: download it '
            f'again. {type(error).__name__}: {error}'
        ) from error
    tensors: dict[str, Any] = {}
    for name in sorted(names):
        shard = index.with_name(str(name))
        if not shard.is_file():
            raise CheckpointError(f"{index} names '{name}', which is not there: get all files.")
        tensors |= read_content(shard)[0]
    return tensors


def _read_safetensors(file: Path) -> tuple[Any, dict[str, Any]]:
    try:
        with safe_open(file, 'pt') as opened:
            text = (opened.metadata() or {}).get('meta', '')
        tensors = load_file(file)
    except SafetensorError as error:
        raise _damaged(file, error) from error
    try:
        meta = json.loads(text)
    except ValueError:  # of another tool
        meta = None
    return tensors, meta if isinstance(meta, dict) else {}


def _read_torch(file: Path, is_zip: bool) -> Any:
    if is_zip:
        _refuse_other_zips(file)
    harmless = [(_Nothing, name) for name in _HARMLESS]
    # Older torch knows no allow-list; it refuses all that is not a tensor.
    safe_globals = getattr(torch.serialization, 'safe_globals', lambda _: nullcontext())
    try:
        with safe_globals(harmless), warnings.catch_warnings():
            warnings.simplefilter('ignore')
            return torch.load(file, map_location='cpu', weights_only=True)
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
        if 'TorchScript' in str(error):
            raise CheckpointError(f'{file} is {_SCRIPT}.') from error
        raise _damaged(file, error) from error


def _refuse_other_zips(file: Path) -> None:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise _damaged(file, error) from error
    for pattern, what in _FOREIGN_ZIPS:
        if any(re.search(pattern, name) for name in names):
            raise CheckpointError(f'{file} is {what}.')


def _damaged(file: Path, error: Exception) -> CheckpointError:
    found = re.search(r'WeightsUnpickler error: (.*)', str(error))  # amid advice of torch's
    reason = found[1] if found else str(error).split('\n')[0]
    return CheckpointError(
        f'{file} ({file.stat().st_size} bytes) is damaged or not complete: download or copy it '
        f'again. {type(error).__name__}: {reason}'
    )
