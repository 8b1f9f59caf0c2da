# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Teacher update after each optimizer step."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.hooks.skipped_step import read_skipped_step
from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.schedules import cosine
from ibot_mm.registry import HOOKS

SHORTEST, LONGEST = 10, 250  # memory of a teacher whose share is given, in steps


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """Moves the teacher with a momentum that follows a cosine over the training.

    Runs after each optimizer step: with gradient accumulation, after the last iteration of
    each cycle. A step that :class:`SkipBadStepsHook` skips leaves the teacher alone.

    Args:
        momentum (float): At the start. Defaults to 0.996.
        final_momentum (float): At the end. Defaults to 1.
        memory_share (float, optional): Share of the training that the teacher remembers at the
            start, 1 / (1 - momentum) steps, instead of ``momentum``; at least ten steps and at most
            250, those of the published momentum. Defaults to None.

    Raises:
        ValueError: If a momentum is outside [0, 1] or the share outside (0, 1].
    """

    priority = 'NORMAL'  # after SkipBadStepsHook

    def __init__(
        self,
        momentum: float = 0.996,
        final_momentum: float = 1.0,
        memory_share: float | None = None,
    ) -> None:
        if not (0 <= momentum <= 1 and 0 <= final_momentum <= 1):
            raise ValueError(
                f'Teacher momenta must lie in [0, 1], got {momentum} and {final_momentum}.'
            )
        check_ranges(type(self).__name__, {'(0, 1]': dict(memory_share=memory_share)})
        self.momentum = momentum
        self.memory_share = memory_share
        self.final_momentum = final_momentum

    def before_train(self, runner: Runner) -> None:
        """Check that the model has a teacher, and set what depends on the training's length."""
        unwrap_model(runner, 'update_teacher', type(self).__name__)
        if self.memory_share is not None:
            memory = min(max(self.memory_share * runner.max_iters, SHORTEST), LONGEST)
            self.momentum = 1 - 1 / memory

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Update the teacher if the optimizer stepped."""
        if not runner.optim_wrapper.should_update():
            return
        momentum = self.momentum_at(runner.iter, runner.max_iters)
        skipped = read_skipped_step(runner)  # a tensor, not waited for
        options = {} if skipped is None else dict(skip=skipped)
        model = unwrap_model(runner, 'update_teacher', type(self).__name__)
        model.update_teacher(momentum, **options)
        runner.message_hub.update_scalar('train/teacher_momentum', momentum)

    def momentum_at(self, step: int, num_steps: int) -> float:
        """Compute the share of the teacher that a step keeps, in a training of so many steps."""
        return cosine(self.momentum, self.final_momentum, step, num_steps)
