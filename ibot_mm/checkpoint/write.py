# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing weights: safetensors, files of torch, folders of Hugging Face's."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from safetensors.torch import save_file
from torch import Tensor

from ibot_mm.version import __version__

from .errors import CheckpointError

SUFFIXES = ('.safetensors', '.pth')


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
        meta: Stored beside them, plain values only; :func:`read_meta` gives it back. Defaults to
            None, the version of this project.
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


def write_folder(
    path: str | Path,
    weights: Mapping[str, Tensor],
    config: Mapping[str, Any],
    overwrite: bool = False,
) -> Path:
    """Write a folder of Hugging Face's, ``config.json`` and ``model.safetensors``.

    Args:
        path: The folder.
        weights: Names and tensors.
        config: Contents of ``config.json``.
        overwrite: Whether these two files are replaced where they are. Defaults to False.

    Raises:
        CheckpointError: If one is there, or the folder is a file.
    """
    path = Path(path)
    if path.is_file() or path.suffix in SUFFIXES:
        raise CheckpointError(f'{path} must be a folder: Hugging Face needs config.json too.')
    for name in ('config.json', 'model.safetensors'):
        check_output(path / name, (), overwrite)
    write_weights(path / 'model.safetensors', weights, overwrite=overwrite)
    (path / 'config.json').write_text(json.dumps(dict(config), indent=2, sort_keys=True) + '\n')
    return path


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


def backbone_config(type: str, options: Mapping[str, Any]) -> str:
    """The text of a config of a backbone, as ``meta['cfg']``, from which its heads can be read."""
    backbone = dict(type=f'ibot_mm.{type}', **options)
    return Config(dict(model=dict(backbone=backbone))).pretty_text
