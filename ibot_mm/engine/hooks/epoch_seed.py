# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""One seed for each epoch: resumed training repeats the uninterrupted one."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS


def _transforms(dataset: Any) -> Iterator:
    """Transforms of a dataset, through wrappers such as RepeatDataset and ConcatDataset."""
    for inner in getattr(dataset, 'datasets', None) or [getattr(dataset, 'dataset', None)]:
        if inner is not None:
            yield from _transforms(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    yield from getattr(pipeline, 'transforms', [])


@HOOKS.register_module()
class EpochSeedHook(Hook):
    """Tells the epoch to the transforms and reseeds the process from (seed, epoch, rank).

    Transforms that have ``set_epoch`` (:class:`ibot_mm.SeedSample`) then draw anew each epoch,
    persistent workers included, and drop path repeats itself after a resume. The seed is the
    Runner's (``randomness=dict(seed=...)``).
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed this epoch."""
        for transform in _transforms(runner.train_dataloader.dataset):
            if hasattr(transform, 'set_epoch'):
                transform.set_epoch(runner.epoch)
        seed = np.random.SeedSequence([runner.seed, runner.epoch, get_rank()])
        state = int(seed.generate_state(1)[0])
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report images that were skipped so far because they could not be decoded."""
        skipped = sum(
            getattr(t, 'skipped', 0) for t in _transforms(runner.train_dataloader.dataset)
        )
        if skipped:
            runner.logger.warning(
                f'{skipped} undecodable images were skipped since the start of this run on this '
                'process; their names are above.'
            )
