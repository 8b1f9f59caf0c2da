# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Seeds that depend on the place in the training: resuming repeats the uninterrupted run."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.hooks.unwrap import training_transforms
from ibot_mm.registry import HOOKS


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
        for transform in training_transforms(runner):
            if hasattr(transform, 'set_epoch'):
                transform.set_epoch(runner.epoch, seed=runner.seed)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed the process."""
        entropy = [runner.seed, runner.iter, get_rank()]
        state = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(state)
        np.random.seed(state)
        torch.manual_seed(state)
