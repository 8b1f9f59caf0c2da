# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Teacher update after each optimizer step."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.hooks.skipped_step import read_skipped_step
from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.schedules import cosine
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class TeacherUpdateHook(Hook):
    """Moves the teacher with a momentum that follows a cosine over the training.

    Runs after each optimizer step: with gradient accumulation, after the last iteration of
    each cycle. A step that :class:`SkipBadStepsHook` skips leaves the teacher alone.

    Args:
        momentum (float): At the start. Defaults to 0.996.
        final_momentum (float): At the end. Defaults to 1.

    Raises:
        ValueError: If a momentum is outside [0, 1].
    """

    priority = 'NORMAL'  # after SkipBadStepsHook

    def __init__(self, momentum: float = 0.996, final_momentum: float = 1.0) -> None:
        if not (0 <= momentum <= 1 and 0 <= final_momentum <= 1):
            raise ValueError(
                f'Teacher momenta must lie in [0, 1], got {momentum} and {final_momentum}.'
            )
        self.momentum = momentum
        self.final_momentum = final_momentum

    def before_train(self, runner: Runner) -> None:
        """Check that the model has a teacher."""
        unwrap_model(runner, 'update_teacher', type(self).__name__)

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Update the teacher if the optimizer stepped."""
        if not runner.optim_wrapper.should_update():
            return
        momentum = cosine(self.momentum, self.final_momentum, runner.iter, runner.max_iters)
        skipped = read_skipped_step(runner)  # a tensor, not waited for
        options = {} if skipped is None else dict(skip=skipped)
        model = unwrap_model(runner, 'update_teacher', type(self).__name__)
        model.update_teacher(momentum, **options)
        runner.message_hub.update_scalar('train/teacher_momentum', momentum)
