# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Progress of a training, in one unit, for all that changes in its course."""

import math
from dataclasses import dataclass

from mmengine.runner import IterBasedTrainLoop, Runner


@dataclass(frozen=True)
class Clock:
    """Progress in the unit of the training loop.

    Args:
        step: Epochs or, in a loop by iterations, iterations that are done.
        total: The training's length in the same unit.
        steps_per_epoch: 1, or the iterations of one pass through the data.
    """

    step: int
    total: int
    steps_per_epoch: float = 1

    def steps(self, epochs: float) -> int:
        """Return the length of some epochs in this unit, rounded up."""
        return math.ceil(round(epochs * self.steps_per_epoch, 6))

    def describe(self, epochs: float) -> str:
        """Say the same in words."""
        if self.steps_per_epoch == 1:
            return f'{epochs:g} epochs'
        rate = f'{self.steps_per_epoch:.4g}'
        return f'{epochs:g} epochs ({self.steps(epochs)} iterations, at {rate} for each epoch)'


def read_clock(runner: Runner, iteration: int | None = None) -> Clock:
    """Read the clock of a training.

    Args:
        runner: The runner.
        iteration: What the clock shows then. Defaults to None, now.

    Returns:
        Epochs with an ``EpochBasedTrainLoop``. With an ``IterBasedTrainLoop``, where the epoch
        stays 0, iterations: an epoch then is one pass through the data.
    """
    loop = runner.train_loop
    if not isinstance(loop, IterBasedTrainLoop):
        epoch = runner.epoch if iteration is None else iteration // len(loop.dataloader)
        return Clock(epoch, runner.max_epochs)
    batches = getattr(loop.dataloader, 'batch_sampler', None)
    per_epoch = getattr(batches, 'batches_per_epoch', None) or len(loop.dataloader)
    step = runner.iter if iteration is None else iteration
    return Clock(step, runner.max_iters, per_epoch)
