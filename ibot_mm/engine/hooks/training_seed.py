# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Seeds that depend on the place in the training: resuming repeats the uninterrupted run."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner

from ibot_mm.engine.hooks.unwrap import training_transforms
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class TrainingSeedHook(Hook):
    """Makes every draw of a training a function of its seed and the place in it.

    :class:`ibot_mm.SeededBatchSampler`, which seeds the draws of the data, is told seed and epoch.
    The process itself, which draws drop path, is seeded before each iteration, since how much a
    data loader draws from it depends on the workers. The seed is the Runner's
    (``randomness=dict(seed=...)``).

    Raises:
        TypeError: Before training, if the data loader cannot seed each presentation.
        ValueError: Before training, if an epoch would have no end.
    """

    priority = 'NORMAL'

    def before_train(self, runner: Runner) -> None:
        """Check the data loader, and tell it the seed."""
        loader: Any = runner.train_dataloader
        batches: Any = getattr(loader, 'batch_sampler', None)
        if _is_endless(batches) and isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError(
                'An epoch with InfiniteSampler has no end: use sampler=dict(type="DefaultSampler", '
                'shuffle=True), or train_cfg=dict(type="IterBasedTrainLoop", max_iters=...).'
            )
        if hasattr(batches, 'batches_per_epoch'):
            batches.seed = runner.seed
            _check_dataset(loader.dataset)
        elif any(True for _ in training_transforms(runner)):
            raise TypeError(
                f'TrainingSeedHook cannot seed what is drawn for batches of '
                f'{type(batches).__name__}: give train_dataloader '
                "batch_sampler=dict(type='ibot_mm.SeededBatchSampler'), and move drop_last there; "
                'or remove the hook.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the epoch; in a loop by iterations, where it stays 0, the passes that are done."""
        batches = getattr(runner.train_dataloader, 'batch_sampler', None)
        if batches is None or not hasattr(batches, 'set_epoch'):
            return
        epoch = runner.epoch
        if isinstance(runner.train_loop, IterBasedTrainLoop) and not _is_endless(batches):
            epoch = runner.iter // len(batches)
        batches.set_epoch(epoch)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the process."""
        entropy = [runner.seed, runner.iter, get_rank()]
        state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)


def _is_endless(batches: Any) -> bool:
    return isinstance(getattr(batches, 'sampler', None), InfiniteSampler)


def _check_dataset(dataset: Any) -> None:
    if hasattr(dataset, '__getitems__'):
        raise TypeError(
            f'{type(dataset).__name__} is asked for whole batches (__getitems__), whose images '
            'cannot be seeded one by one: use a data set without this method, such as '
            'ibot_mm.ImageFolder(indices=...) for a part of the images.'
        )
