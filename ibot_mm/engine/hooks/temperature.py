# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Schedules of the two teacher temperatures."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.clock import Clock, read_clock
from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.schedules import linear
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class TeacherTemperatureHook(Hook):
    """Sets both teacher temperatures: at each epoch, or each iteration of a loop by iterations.

    Each rises linearly over ``warmup_epochs`` and then stays; that of the patches first waits
    ``patch_start_epoch`` epochs at its start, until masks are drawn. In a loop by iterations an
    epoch is a pass through the data, of which a fraction can be given.

    Args:
        temperature (tuple[float, float]): First and final, of [CLS] targets.
            Defaults to (0.04, 0.07).
        patch_temperature (tuple[float, float]): The same, of patch targets.
            Defaults to (0.04, 0.07).
        warmup_epochs (float): Defaults to 30.
        warmup_share (float, optional): Length of the warm-up as a share of the training, instead
            of ``warmup_epochs``. Defaults to None.
        patch_start_epoch (float): Give it the ``start_epoch`` of ``MaskGenerator``. Defaults to 0.

    Raises:
        ValueError: If a temperature is not positive, a number of epochs negative or the share
            outside [0, 1]; before
            training, if it is shorter than the warm-ups.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        temperature: tuple[float, float] = (0.04, 0.07),
        patch_temperature: tuple[float, float] = (0.04, 0.07),
        warmup_epochs: float = 30,
        patch_start_epoch: float = 0,
        warmup_share: float | None = None,
    ) -> None:
        check_ranges(
            type(self).__name__,
            {
                '(0, inf)': dict(temperature=temperature, patch_temperature=patch_temperature),
                '[0, inf)': dict(warmup_epochs=warmup_epochs, patch_start_epoch=patch_start_epoch),
                '[0, 1]': dict(warmup_share=warmup_share),
            },
        )
        self.temperature = temperature
        self.patch_temperature = patch_temperature
        self.warmup_epochs = warmup_epochs
        self.warmup_share = warmup_share
        self.patch_start_epoch = patch_start_epoch

    def before_train(self, runner: Runner) -> None:
        """Check lengths and model."""
        unwrap_model(runner, 'set_temperatures', type(self).__name__)
        self._last: tuple[float, float] | None = None
        clock = read_clock(runner)
        needed = self.warmup_epochs + self.patch_start_epoch
        if self.warmup_share is not None:
            needed = self.patch_start_epoch
        if clock.steps(needed) > clock.total:
            unit = 'epochs' if clock.steps_per_epoch == 1 else 'iterations'
            raise ValueError(
                f'Training of {clock.total} {unit} is shorter than the warm-up of the teacher '
                f'temperature, {clock.describe(needed)}: lower warmup_epochs (and '
                'patch_start_epoch) of TeacherTemperatureHook or train longer.'
            )

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Set the temperatures where they change."""
        temperatures = self.temperatures_at(read_clock(runner))
        if temperatures == self._last:
            return
        self._last = temperatures
        model = unwrap_model(runner, 'set_temperatures', type(self).__name__)
        model.set_temperatures(*temperatures)
        hub = runner.message_hub
        for name, value in zip(('temperature', 'patch_temperature'), temperatures):
            key = f'train/teacher_{name}'
            # The history of a resumed training has the value that it stopped at.
            if key not in hub.log_scalars or hub.get_scalar(key).current() != value:
                hub.update_scalar(key, value)

    def temperatures_at(self, clock: Clock) -> tuple[float, float]:
        """Return both temperatures, of [CLS] and patch targets, at that time."""
        warmup, start = clock.steps(self.warmup_epochs), clock.steps(self.patch_start_epoch)
        if self.warmup_share is not None:
            warmup = round(self.warmup_share * clock.total)
        cls = linear(*self.temperature, clock.step, warmup)
        if clock.step < start:
            return cls, self.patch_temperature[0]
        return cls, linear(*self.patch_temperature, clock.step - start, warmup)
