# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Seeds that depend on the place in the training: resuming repeats the uninterrupted run."""

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
class TrainingSeedHook(Hook):
    """Makes every draw of a training a function of seed, place in the training, and process.

    Transforms that have ``set_epoch`` (:class:`ibot_mm.SeedSample`) are told seed and epoch before
    the data loader starts, persistent workers included. The process itself, which draws drop
    path, is seeded before each iteration, since how much a data loader draws from it depends
    on the workers. The seed is the Runner's (``randomness=dict(seed=...)``).
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the transforms."""
        for transform in _transforms(runner.train_dataloader.dataset):
            if hasattr(transform, 'set_epoch'):
                transform.set_epoch(runner.epoch, seed=runner.seed)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the process."""
        entropy = [runner.seed, runner.iter, get_rank()]
        state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)

    def after_train_epoch(self, runner: Runner) -> None:
        """Report images that were skipped so far because they could not be decoded."""
        transforms = _transforms(runner.train_dataloader.dataset)
        skipped = sum(getattr(transform, 'skipped', 0) for transform in transforms)
        if skipped:
            runner.logger.warning(
                f'{skipped} undecodable images were skipped since the start of this run on this '
                'process; their names are above.'
            )
