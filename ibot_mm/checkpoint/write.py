# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing weights: safetensors, files of torch, folders of Hugging Face's; publishing."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ibot_mm.version import __version__

from .checkpoint import Checkpoint
from .export import Export
from .locate import CheckpointError

SUFFIXES = ('.safetensors', '.pth')
STATE = 'state_dict.'


def write_weights(
    path: str | Path,
    weights: Mapping[str, Tensor],
    meta: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write weights to one file, whole or not at all.

    Args:
        path: ``.safetensors``, or ``.pth`` for a file of torch, ``{'state_dict': ..., 'meta':
            ...}``, as mmengine, timm and the published iBOT read it.
        weights: Names and tensors.
        meta: Stored beside them, plain values only; :attr:`Checkpoint.meta` gives it back.
            Defaults to None, the version of this project.
        overwrite: Whether an existing file is replaced. Defaults to False.

    Raises:
        CheckpointError: If the name has another ending, or the file is there.
    """
    path = Path(path)
    check_output(path, SUFFIXES, overwrite)
    meta = dict(ibot_mm_version=__version__) | dict(meta or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'{path.name}.part')
    # Safetensors refuse tensors that share memory, and views take all of it along.
    tensors = {name: tensor.detach().contiguous().clone() for name, tensor in weights.items()}
    try:
        if path.suffix == '.safetensors':
            save_file(tensors, part, metadata=dict(format='pt', meta=json.dumps(meta)))
        else:
            torch.save(dict(state_dict=tensors, meta=meta), part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def write_export(
    path: str | Path, export: Export, config: str | None = None, overwrite: bool = False
) -> str:
    """Write weights for another library in the way that it reads.

    Args:
        path: A file, or a folder for transformers.
        export: The weights.
        config: Text of a config of the backbone they come from, stored beside them where there is
            room. Defaults to None, nothing.
        overwrite: Whether what is there is replaced. Defaults to False.

    Returns:
        What was written, what was left out or added, and how it is used, for the user.

    Raises:
        CheckpointError: If the library does not read files of that ending, or the file is there.
    """
    target = export.target
    if target.suffixes:
        check_output(Path(path), target.suffixes, overwrite)
        write_weights(path, export.weights, dict(cfg=config) if config else None, overwrite)
    else:
        write_folder(Path(path), export.weights, target.options, overwrite)
    usage = target.usage.replace('FILE', repr(str(path)))
    return '\n'.join([f'{path}: for {target.title}', *target.notes(), usage])


def write_folder(
    path: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write a folder of Hugging Face's, ``config.json`` and ``model.safetensors``."""
    if path.is_file() or path.suffix in SUFFIXES:
        raise CheckpointError(f'{path} must be a folder: Hugging Face needs config.json too.')
    for name in ('config.json', 'model.safetensors'):
        check_output(path / name, (), overwrite)
    write_weights(path / 'model.safetensors', weights, overwrite=overwrite)
    (path / 'config.json').write_text(json.dumps(dict(config), indent=2, sort_keys=True) + '\n')


def check_output(path: Path, suffixes: tuple[str, ...], overwrite: bool) -> None:
    """Refuse a file that is there already, or has the ending of another kind.

    Args:
        path: The file to be written.
        suffixes: Endings it may have; empty for any.
        overwrite: Whether it may be there.

    Raises:
        CheckpointError: If it cannot be written.
    """
    if suffixes and path.suffix not in suffixes:
        raise CheckpointError(f'{path} must end in {" or ".join(suffixes)}.')
    if path.is_dir():
        raise CheckpointError(f'{path} is a folder: name a file.')
    if path.exists() and not overwrite:
        raise CheckpointError(f'{path} is there already: give another name, or overwrite it.')


def publish(
    checkpoint: str | Path, out: str | Path, overwrite: bool = False
) -> tuple[Path, list[str]]:
    """Write the weights of a checkpoint without optimizer, schedules and logs.

    All networks stay, in full precision: a pre-training keeps student, teacher and heads. For a
    backbone alone see :func:`export_backbone`.

    Args:
        checkpoint: See :meth:`Checkpoint.open`.
        out: File to write, ``.safetensors`` or ``.pth``; the first eight digits of the weights'
            hash are put into the name, see :func:`hash_of`.
        overwrite: Whether a file that is called ``out`` may be replaced. Defaults to False.

    Returns:
        The file, and names of tensors that were left out.

    Raises:
        CheckpointError: If the checkpoint cannot be read or the file not be written.
    """
    opened = Checkpoint.open(checkpoint)
    tensors = opened.tensors
    weights = {n.removeprefix(STATE): t for n, t in tensors.items() if n.startswith(STATE)}
    left_out = [name for name in tensors if weights and not name.startswith(STATE)]
    weights = weights or dict(tensors)
    path = Path(out)
    final = path.with_name(f'{path.stem}-{hash_of(weights)[:8]}{path.suffix}')
    check_output(path, SUFFIXES, overwrite)
    if final.exists() and not overwrite:
        check_output(final, SUFFIXES, overwrite)
    return write_weights(final, weights, _plain(opened.meta), overwrite), left_out


def hash_of(weights: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names, types, shapes and values of weights, in any order and file.

    Args:
        weights: Names and tensors.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what JSON can hold; the rest are objects of classes."""
    plain = {}
    for name, value in meta.items():
        try:
            plain[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return plain
