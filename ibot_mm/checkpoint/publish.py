# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A checkpoint of a training for others: weights alone, under a name that proves them."""

import hashlib
import json
from pathlib import Path
from typing import Any

from .files import load_checkpoint_file, read_meta
from .write import write_weights

STATE = 'state_dict.'


def publish(
    checkpoint: str | Path, out: str | Path, overwrite: bool = False
) -> tuple[Path, list[str]]:
    """Write the weights of a checkpoint without optimiser, schedules and logs.

    All networks stay, in full precision: a pre-training keeps student, teacher and heads. For a
    backbone alone see :func:`export_backbone`.

    Args:
        checkpoint: See :func:`load_checkpoint_file`.
        out: File to write, ``.safetensors`` or ``.pth``; the first eight digits of its SHA-256 are
            put into the name, as mm and torch do it.
        overwrite: Whether a file that is called ``out`` may be replaced. Defaults to False.

    Returns:
        The file, and names of tensors that were left out.

    Raises:
        CheckpointError: If the checkpoint cannot be read or the file not be written.
    """
    tensors = load_checkpoint_file(checkpoint)
    weights = {n.removeprefix(STATE): t for n, t in tensors.items() if n.startswith(STATE)}
    left_out = [name for name in tensors if weights and not name.startswith(STATE)]
    meta = _plain(read_meta(checkpoint))
    path = write_weights(out, weights or tensors, meta, overwrite)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    return path.rename(path.with_name(f'{path.stem}-{digest}{path.suffix}')), left_out


def _plain(meta: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold; the rest are objects of classes."""
    plain = {}
    for name, value in meta.items():
        try:
            plain[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            continue
    return plain
