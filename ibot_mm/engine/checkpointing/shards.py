# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Checkpoints of models that processes share: a folder of torch.distributed.checkpoint.

    epoch_3.dcp/
        training.pth     all that every process holds whole: progress, schedules, buffers, history
        __0_0.distcp     the parts of process 0, __1_0.distcp those of process 1, ...
        .metadata        which part of which tensor lies where

Any number of processes reads it, each the parts that it needs. Its index is a pickle: it is read by
an unpickler that knows a handful of names, so that nothing in it is run.
"""

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ibot_mm.functional.shards import check_torch

from .errors import CheckpointFileError

SUFFIX = '.dcp'
REST, INDEX = 'training.pth', '.metadata'

# What the index of torch is made of.
_KNOWN = {
    *(
        f'torch.distributed.checkpoint.metadata.{name}'
        for name in ('BytesStorageMetadata', 'ChunkStorageMetadata', 'Metadata', 'MetadataIndex',
                     'StorageMeta', 'TensorProperties', 'TensorStorageMetadata',
                     '_MEM_FORMAT_ENCODING')
    ),
    *('torch.distributed.checkpoint.filesystem._StorageInfo', 'torch.serialization._get_layout'),
    *('torch.Size', 'collections.OrderedDict', 'pathlib.PosixPath', 'pathlib.WindowsPath'),
    *('pathlib._local.PosixPath', 'pathlib._local.WindowsPath'),
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_type = module == 'torch' and isinstance(getattr(torch, name, None), torch.dtype)
        if is_type or f'{module}.{name}' in _KNOWN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f'{module}.{name}')


def read_index(folder: Path) -> Any:
    """Read what lies where in a folder; nothing in it is run.

    Args:
        folder: The checkpoint.

    Returns:
        The ``Metadata`` of torch.

    Raises:
        CheckpointFileError: If the index is missing, damaged, or would run code.
    """
    try:
        with open(folder / INDEX, 'rb') as stream:
            index = _Unpickler(stream).load()
        if isinstance(index.state_dict_metadata, dict) and isinstance(index.storage_data, dict):
            return index
        reason = 'it has no list of tensors'
    except FileNotFoundError:
        raise CheckpointFileError(f'Checkpoint {folder} lacks {INDEX}.') from None
    except Exception as error:  # of a pickle that may hold anything
        reason = f'{type(error).__name__}: {error}'
    raise CheckpointFileError(
        f'Checkpoint {folder} is refused: {INDEX} is not an index as torch.distributed.checkpoint '
        f'writes it ({reason}).'
    )


def find_fault_of_shards(folder: Path) -> str | None:
    """Say what is wrong with the parts in a folder, or None.

    Each part is read and compared with its checksum (the CRC-32 that torch writes).

    Args:
        folder: The checkpoint.
    """
    try:
        index = read_index(folder)
    except CheckpointFileError as error:
        return str(error).removeprefix(f'Checkpoint {folder} ').rstrip('.')
    files: dict[str, list[Any]] = {}
    for place in index.storage_data.values():
        files.setdefault(place.relative_path, []).append(place)
    for name, places in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            return f'lacks {name}'
        if path.stat().st_size < max(place.offset + place.length for place in places):
            return f'is not complete ({name} is too short)'
        if fault := _find_damage(path, places):
            return fault
    return None


def _find_damage(path: Path, places: list[Any]) -> str | None:
    with open(path, 'rb') as stream:
        for place in places:
            stream.seek(place.offset)
            try:
                with zipfile.ZipFile(io.BytesIO(stream.read(place.length))) as archive:
                    bad = archive.testzip()
            except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
                return f'is damaged ({path.name}: {error})'
            if bad is not None:
                return f'is damaged (checksum in {path.name})'
    return None


def read_shards(
    folder: Path, target: Callable[[str, torch.Size], Tensor | None] | None = None
) -> dict[str, Tensor]:
    """Read the tensors in a folder.

    Args:
        folder: The checkpoint.
        target: Gives, by name and shape, a tensor that is spread as this process needs it; None
            for one that is not needed, which comes back on the meta device. All processes call
            this then. Defaults to None, whole tensors, read by each process for itself.

    Returns:
        Tensors by their names.

    Raises:
        CheckpointFileError: If the index or a part cannot be read.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

    class Reader(dcp.FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
            index: Metadata = read_index(folder)
            index.storage_meta = StorageMeta(load_id=self.load_id)
            return index

    tensors: dict[str, Tensor] = {}
    for name, entry in read_index(folder).state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):  # would be unpickled
            continue
        like = torch.empty(()) if target is None else target(name, entry.size)
        dtype = entry.properties.dtype
        if target is None:
            tensors[name] = torch.empty(entry.size, dtype=dtype)
        elif like is None:
            tensors[name] = torch.empty(entry.size, dtype=dtype, device='meta')
        else:
            tensors[name] = torch.empty_like(like, dtype=dtype, requires_grad=False)
    wanted = {name: tensor for name, tensor in tensors.items() if not tensor.is_meta}
    try:
        check_torch()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # that there is one process
            dcp.load(wanted, storage_reader=Reader(folder), no_dist=target is None)
    except (Exception, dcp.api.CheckpointException) as error:
        raise CheckpointFileError(f'Checkpoint {folder} cannot be read: {error}') from error
    return tensors


def fill_in(content: Any, tensors: dict[str, Tensor]) -> None:
    """Put tensors back where :func:`ibot_mm.engine.checkpointing.shard_writing.split` took them.

    Args:
        content: Of the rest, changed in place.
        tensors: By their names.
    """
    for name, container, key in list(_leaves(content)):
        if name in tensors:
            container[key] = tensors[name]


def _leaves(value: Any, name: str = '') -> Iterator[tuple[str, Any, Any]]:
    pairs: Any = ()
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    for key, entry in pairs:
        path = f'{name}.{key}' if name else str(key)
        if entry is None:
            yield path, value, key
        else:
            yield from _leaves(entry, path)
