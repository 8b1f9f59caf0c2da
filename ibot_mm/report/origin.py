# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a checkpoint tells of its training; what it does not tell is said to be unknown."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import yaml
from mmengine.config import Config

from ibot_mm.checkpoint import Checkpoint

from .base import CONFIGS, nearest_base

UNKNOWN = 'unknown'
ALGORITHMS = ('ibot_mm.IBOT', 'IBOT')
MOST_KEYS = 40  # of a config that are listed


def is_ibot(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint is of this project's pre-training, by the config in it."""
    return model_of(checkpoint).get('type') in ALGORITHMS


def model_of(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return ``model`` of the config in a checkpoint; empty where there is none."""
    model = checkpoint.training_config.get('model')
    return model if isinstance(model, dict) else {}


def training_facts(checkpoint: Checkpoint) -> dict[str, str]:
    """List what a checkpoint tells of its training.

    Args:
        checkpoint: Of this project, or any other, of which most is unknown.

    Returns:
        Quantity -> value.
    """
    meta, cfg = checkpoint.meta, checkpoint.training_config
    data = _at(cfg, 'train_dataloader', 'dataset') or {}
    images = ' '.join(str(data[key]) for key in ('data_root', 'data_prefix') if data.get(key))
    versions = [
        f'{name} {meta[key]}'
        for name, key in (('mmengine', 'mmengine_version'), ('torch', 'torch_version'))
        if meta.get(key)
    ]
    return {
        'images': f'`{images}`, as the config names them' if images else UNKNOWN,
        'length': _length(meta, cfg),
        'started from': _start(checkpoint),
        'seed': str(meta.get('seed', UNKNOWN)),
        'finished': _time(meta.get('time')),
        'ibot-mm': meta.get('ibot_mm_version') or UNKNOWN,
        'commit of ibot-mm': meta.get('ibot_mm_commit') or UNKNOWN,
        'other versions': ', '.join(versions) or UNKNOWN,
    }


def config_delta(checkpoint: Checkpoint) -> tuple[str, dict[str, tuple[Any, Any]]] | None:
    """Return the config of a pre-training as its difference from the nearest of the project.

    Args:
        checkpoint: See :func:`training_facts`.

    Returns:
        As of :func:`~ibot_mm.report.base.nearest_base`; None if the checkpoint has no such config.
    """
    if not is_ibot(checkpoint) or 'train_dataloader' not in checkpoint.training_config:
        return None
    try:
        return nearest_base(Config(checkpoint.training_config))
    except FileNotFoundError:
        return None


def published_entry(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the metafile's entry of a checkpoint that was opened by its published name."""
    package, _, model = checkpoint.location.partition('::')
    path = CONFIGS / model.split('/')[0] / 'metafile.yml'
    if package != 'ibot_mm' or not path.is_file():
        return {}
    entries = yaml.safe_load(path.read_text())['Models']
    return next((entry for entry in entries if entry['Name'] == model.split('/')[-1]), {})


def _length(meta: Mapping[str, Any], cfg: Mapping[str, Any]) -> str:
    parts = []
    if 'epoch' in meta:
        total = _at(cfg, 'train_cfg', 'max_epochs')
        parts.append(f'epoch {meta["epoch"]}' + (f' of {total}' if total else ''))
    if 'iter' in meta:
        batch = meta.get('images_per_iteration')
        parts.append(f'{meta["iter"]:,} steps' + (f' of {batch} images' if batch else ''))
    if 'images_seen' in meta:
        parts.append(f'{meta["images_seen"]:,} images seen')
    return ', '.join(parts) or UNKNOWN


def start_of(config: Mapping[str, Any]) -> str | None:
    """Return the checkpoint that a config starts from; None for random weights."""
    model = config.get('model') or {}
    inits = [model.get('init_cfg'), (model.get('backbone') or {}).get('init_cfg')]
    listed = [one for init in inits for one in (init if isinstance(init, list) else [init])]
    found = [one['checkpoint'] for one in listed if one and one.get('checkpoint')]
    start = config.get('load_from') or next(iter(found), None)
    return str(start) if start else None


def _start(checkpoint: Checkpoint) -> str:
    if not is_ibot(checkpoint):
        return UNKNOWN
    return start_of(checkpoint.training_config) or 'random weights'


def _time(text: Any) -> str:
    try:
        return f'{datetime.strptime(str(text), "%Y%m%d_%H%M%S"):%Y-%m-%d}'
    except ValueError:
        return UNKNOWN


def _at(node: Any, *keys: str) -> Any:
    for key in keys:
        node = node.get(key) if isinstance(node, dict) else None
    return node
