# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pickles that torch does not read: detectron2's, and the index of a distributed checkpoint.

Both go through unpicklers that know a handful of names and refuse all others, so that nothing in
a file is run.
"""

import codecs
import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .locate import CheckpointError


class _Record:
    """Stands for an object of a class that is not touched; keeps its attributes."""

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


class _Unpickler(pickle.Unpickler):
    """Knows the names of ``known`` and no others."""

    known: ClassVar[dict[str, Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.known[f'{module}.{name}']
        except KeyError:
            raise pickle.UnpicklingError(f'{module}.{name}') from None


class _OfArrays(_Unpickler):
    known = {
        f'numpy.{core}.multiarray._reconstruct': np.zeros(1).__reduce__()[0]
        for core in ('core', '_core')
    } | {
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        '_codecs.encode': codecs.encode,
        'collections.OrderedDict': OrderedDict,
    }


class _OfMetadata(_Unpickler):
    known = {
        f'torch.distributed.checkpoint.metadata.{name}': _Record
        for name in (
            'BytesStorageMetadata',
            'ChunkStorageMetadata',
            'Metadata',
            'MetadataIndex',
            'StorageMeta',
            'TensorProperties',
            'TensorStorageMetadata',
        )
    } | {
        'torch.distributed.checkpoint.metadata._MEM_FORMAT_ENCODING': int,
        'torch.distributed.checkpoint.filesystem._StorageInfo': _Record,
        'torch.serialization._get_layout': str,
        'torch.Size': tuple,
        'collections.OrderedDict': OrderedDict,
        'pathlib.PosixPath': lambda *parts: '/'.join(parts),
        'pathlib._local.PosixPath': lambda *parts: '/'.join(parts),  # of Python 3.13
        **{
            f'torch.{name}': name
            for name, value in vars(torch).items()
            if isinstance(value, torch.dtype)
        },
    }


def read_pickle(file: Path) -> dict[str, Any]:
    """Read a plain pickle of arrays, as detectron2 publishes its models.

    Args:
        file: The file.

    Returns:
        What it holds, arrays as tensors.

    Raises:
        CheckpointError: If it holds anything but arrays.
    """
    try:
        with open(file, 'rb') as stream:
            content = _tensors(_OfArrays(stream, encoding='latin1').load())
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f'{file} is a pickle, but none of torch, and not one of arrays as detectron2 has them: '
            f'save its weights by torch.save. {type(error).__name__}: {error}'
        ) from error
    if not isinstance(content, dict):
        content = {}
    if not any(isinstance(value, (Tensor, dict)) for value in content.values()):
        raise CheckpointError(
            f'{file} is a pickle, but none of torch: save its weights by torch.save.'
        )
    return content


def _tensors(content: Any) -> Any:
    if isinstance(content, dict):
        return {name: _tensors(value) for name, value in content.items()}
    if isinstance(content, np.ndarray) and content.dtype.kind in 'biuf':
        return torch.from_numpy(np.ascontiguousarray(content))
    return content


def read_distributed(file: Path, skipped: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Read a checkpoint of ``torch.distributed.checkpoint``, of any number of processes.

    Args:
        file: Its ``.metadata``; the files with tensors lie beside it.
        skipped: How the names of tensors begin that are left out. Defaults to none.

    Returns:
        Tensors by the names under which they were saved.

    Raises:
        CheckpointError: If a file is missing or damaged, or would run code.
    """
    folder = file.parent
    tensors: dict[str, Tensor] = {}
    try:
        with open(file, 'rb') as stream:
            metadata = _OfMetadata(stream).load()
        sizes = metadata.state_dict_metadata
        for index, place in metadata.storage_data.items():
            size = getattr(sizes[index.fqn], 'size', None)
            if size is None or index.fqn.startswith(skipped):  # not a tensor, or not wanted
                continue
            if getattr(place, 'transform_descriptors', None):
                raise CheckpointError(f'{folder} is compressed: save it without extensions.')
            with open(folder / place.relative_path, 'rb') as stream:
                stream.seek(place.offset)
                content = io.BytesIO(stream.read(place.length))
            part = torch.load(content, map_location='cpu', weights_only=True)
            whole = tensors.setdefault(index.fqn, torch.empty(size, dtype=part.dtype))
            start = getattr(index, 'offset', None) or (0,) * part.ndim
            whole[tuple(slice(o, o + n) for o, n in zip(start, part.shape))] = part
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{file} names '{error.filename}', which is not there: get the whole folder."
        ) from error
    except (pickle.UnpicklingError, EOFError, AttributeError, RuntimeError, TypeError) as error:
        raise CheckpointError(
            f'{file} cannot be read as the index of a checkpoint of torch.distributed.checkpoint: '
            f'{type(error).__name__}: {error}. Convert the folder by '
            '`python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE`.'
        ) from error
    return tensors
