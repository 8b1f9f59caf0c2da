# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which of this project's configs have a backbone that takes given weights."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ibot_mm.registry import MODELS

from .errors import CheckpointError
from .report import LoadReport

CONFIGS = Path(__file__).parents[1] / '.mim/configs'
# Of a backbone's config, what changes no parameter's shape.
WITHOUT_EFFECT = (
    'init_cfg',
    'pretrained',
    'drop_path_rate',
    'frozen_stages',
    'checkpoint_activations',
)

Compare = Callable[[nn.Module], LoadReport]


@cache
def backbone_configs() -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The backbone of every config.

    Returns:
        Config, such as ``'pretrain/ibot_vits16'``, -> config of its backbone; and config -> why it
        could not be read.
    """
    from ibot_mm.compatibility import load_config

    found, unread = {}, {}
    for path in sorted(CONFIGS.glob('[!_]*/*.py')):
        name = f'{path.parent.name}/{path.stem}'
        try:
            cfg = load_config(path)
        except ImportError as error:
            unread[name] = str(error).split('\n')[0]
            continue
        backbone = cfg.model.get('backbone')
        if backbone:
            backbone = {k: v for k, v in backbone.to_dict().items() if k not in WITHOUT_EFFECT}
            if '.' not in backbone['type']:
                backbone['type'] = f'{cfg.default_scope}.{backbone["type"]}'
            found[name] = backbone
    return found, unread


def find_fits(compare: Compare) -> dict[str, str]:
    """Configs whose backbone takes all of some weights.

    Args:
        compare: Compares the weights with a backbone, loading nothing; raises
            :class:`CheckpointError` for one of another kind.

    Returns:
        Config -> what is resized for it, empty where nothing is.
    """
    fits, reports = {}, dict[str, LoadReport | None]()
    for name, backbone in backbone_configs()[0].items():
        key = repr(backbone)
        if key not in reports:
            try:
                reports[key] = compare(_build(backbone))
            except CheckpointError:
                reports[key] = None
        report = reports[key]
        if report and not report.differences:
            resized = {words for words in report.resized.values()}
            fits[name] = f'resized: {", ".join(resized)}' if resized else ''
    return fits


def _build(backbone: dict[str, Any]) -> nn.Module:
    """Without memory, where it can be: mm's Swin reads numbers from tensors while it is built."""
    with torch.device('cpu' if 'Swin' in backbone['type'] else 'meta'):
        return MODELS.build(backbone)
