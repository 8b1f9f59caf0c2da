# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Classifiers, optimizers and schedules as the configs have them, for replays."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, DefaultScope
from torch import nn

from ibot_mm.checkpoint import published_to_ibot_mm

CONFIGS = Path(__file__).parents[3] / 'configs'
# A network for what does not depend on its size.
TINY = {
    'model.backbone.arch': dict(
        _delete_=True, embed_dims=8, num_layers=1, num_heads=1, feedforward_channels=8
    ),
    'model.head.in_channels': 8,
}


class Configured:
    """The parts of a config's training, in float64 and without weights of a file.

    Args:
        name: Such as 'cls/finetune_vits16_200e_in1k'.
        changes: What differs, by dotted key.

    Attributes:
        model: The classifier.
        wrapper: The optimizer's wrapper.
    """

    def __init__(self, name: str, changes: dict[str, Any]) -> None:
        self.config = Config.fromfile(CONFIGS / f'{name}.py')
        self.config.merge_from_dict(changes)
        self.config.model.backbone.init_cfg = None
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self.model: Any = MODELS.build(self.config.model).double()
            self.wrapper: Any = build_optim_wrapper(
                self.model, dict(self.config.optim_wrapper, type='OptimWrapper')
            )

    def build_schedule(self, epoch_length: int) -> Any:
        """Return the learning rate's, by iteration."""
        cfg = dict(self.config.learning_rate_schedule, end=self.config.train_cfg.max_epochs)
        if not cfg.pop('convert_to_iter_based', False):
            return PARAM_SCHEDULERS.build(dict(cfg, optimizer=self.wrapper))
        kind = PARAM_SCHEDULERS.get(cfg.pop('type'))
        return kind.build_iter_from_epoch(self.wrapper, epoch_length=epoch_length, **cfg)


def our_names(names: Iterable[str], ndims: Iterable[int] | None = None) -> list[str]:
    """Names of a classifier's parameters, of those of the published code's classifiers."""
    names = list(names)
    dims = [1] * len(names) if ndims is None else list(ndims)
    tensors = {f'backbone.{n}': torch.zeros([1] * d) for n, d in zip(names, dims)}
    others = {
        'backbone.head.weight': 'head.fc.weight',
        'backbone.head.bias': 'head.fc.bias',
        'backbone.fc_norm.weight': 'backbone.ln2.weight',  # of the mean of patches
        'backbone.fc_norm.bias': 'backbone.ln2.bias',
    }
    network = {n: t for n, t in tensors.items() if n not in others}
    mapped = published_to_ibot_mm(network, shared_head=True) | others
    return [mapped[name] for name in tensors]


def groups_of(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[int, dict]]:
    """Parameter -> number and settings of its group."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (number, group)
        for number, group in enumerate(optimizer.param_groups)
        for parameter in group['params']
    }


def in_order_of_appearance(numbers: Iterable[int]) -> np.ndarray:
    """Renumber groups, the first that appears being 0."""
    numbers = list(numbers)
    renumbered = {number: place for place, number in enumerate(dict.fromkeys(numbers))}
    return np.array([renumbered[number] for number in numbers])
