# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Warn of a training whose targets are the same for every image, or will be."""

import math
from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.clock import read_clock
from ibot_mm.engine.hooks.teacher import TeacherUpdateHook
from ibot_mm.engine.hooks.temperature import TeacherTemperatureHook
from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.symmetry import CORRELATION, growth_per_step, steps_to_leave
from ibot_mm.registry import HOOKS

ENTROPY = 'train/teacher_entropy'
MOST_MEMORY = 0.1  # of the training's steps, that of the teacher
WINDOW = 50  # steps over which the entropy is averaged


@HOOKS.register_module()
class UniformTargetsHook(Hook):
    """Warns once before training, and once during it, where the loss stays at ln K.

    Before: by the schedules of temperature and momentum, departures from uniform targets do not
    grow enough in the steps of this training (:mod:`ibot_mm.functional.symmetry`), or the
    teacher's memory, 1 / (1 - momentum), is more than a tenth of them. During: after the steps in
    which they should have grown, at least a tenth of the training and after the learning rate's
    warm-up, the targets' entropy still is that of uniform ones. Both name the lines to add.

    Args:
        correlation (float): Of two views' logits, see
            :func:`~ibot_mm.functional.symmetry.growth_per_step`. Features that are trained already
            have more. Defaults to 0.5.
        max_entropy (float): Share of ln K from which targets count as uniform. Defaults to 0.95.

    Raises:
        ValueError: If a number is outside (0, 1].
    """

    priority = 'LOW'  # after what sets and logs

    def __init__(self, correlation: float = CORRELATION, max_entropy: float = 0.95) -> None:
        numbers = dict(correlation=correlation, max_entropy=max_entropy)
        check_ranges(type(self).__name__, {'(0, 1]': numbers})
        self.correlation = correlation
        self.max_entropy = max_entropy

    def before_train(self, runner: Runner) -> None:
        """Look at the schedules."""
        head = unwrap_model(runner, 'set_temperatures', type(self).__name__).head
        self._uniform = math.log(head.num_prototypes)
        total = runner.max_iters
        expected = steps_to_leave(self._growths(runner, head.student_temperature))
        self._check_at = max(expected or 0, math.ceil(total / 10), WINDOW)
        faults = []
        if expected is None:
            faults.append('the teacher temperature is too high for too many of its steps')
        update = _find(runner, TeacherUpdateHook)
        if update is not None and update.momentum < 1:
            memory = 1 / (1 - update.momentum)
            if memory > MOST_MEMORY * total:
                faults.append(f'the memory of the teacher is {memory:.0f} of its steps')
        if faults and runner.iter == 0:
            runner.logger.warning(
                f'The loss of this training, {total} steps, may stay flat at ln K: '
                f'{", and ".join(faults)}. {self._advice(head.student_temperature, total)}'
            )

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Look at the targets, once."""
        if runner.iter + 1 != self._check_at:
            return
        runner.call_hook('hand_over')
        scalars = runner.message_hub.log_scalars
        if ENTROPY not in scalars:
            return
        share = scalars[ENTROPY].mean(WINDOW) / self._uniform
        if share >= self.max_entropy:
            head = unwrap_model(runner, 'set_temperatures', type(self).__name__).head
            runner.logger.warning(
                f'After {self._check_at} steps all images have nearly the same target: its entropy '
                f'is {share:.1%} of ln K. '
                f'{self._advice(head.student_temperature, runner.max_iters)}'
            )

    def _growths(self, runner: Runner, student_temperature: float) -> Iterator[float]:
        """Growth in each step of the training."""
        temperature, update = (
            _find(runner, TeacherTemperatureHook),
            _find(runner, TeacherUpdateHook),
        )
        head = unwrap_model(runner, 'set_temperatures', type(self).__name__).head
        for step in range(runner.max_iters):
            yield growth_per_step(
                temperature.temperatures_at(read_clock(runner, step))[0]
                if temperature is not None
                else head.teacher_temperature,
                update.momentum_at(step, runner.max_iters) if update is not None else 0.0,
                student_temperature,
                self.correlation,
            )

    def _advice(self, student_temperature: float, total: int) -> str:
        limit = self.correlation * student_temperature
        momentum = min(0.996, 1 - 1 / max(MOST_MEMORY / 2 * total, 10))
        return (
            'Set default_hooks=dict(temperature=dict('
            f'temperature=({0.4 * limit:.3g}, {0.6 * limit:.3g})), '
            f'teacher=dict(momentum={momentum:.3g})) or take '
            'configs/_base_/schedules/small_data.py; see docs/small_data.md.'
        )


def _find(runner: Runner, kind: type[Hook]) -> Any:
    """Find the first hook of a kind, or None."""
    return next((hook for hook in runner.hooks if isinstance(hook, kind)), None)
