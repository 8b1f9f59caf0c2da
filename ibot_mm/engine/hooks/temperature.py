# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Schedules of the two teacher temperatures."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.schedules import linear
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class TeacherTemperatureHook(Hook):
    """Sets both teacher temperatures at the start of each epoch.

    Each rises linearly over ``warmup_epochs`` and then stays; that of the patches first waits
    ``patch_start_epoch`` epochs at its start, until masks are drawn.

    Args:
        temperature (tuple[float, float]): First and final, of [CLS] targets.
            Defaults to (0.04, 0.07).
        patch_temperature (tuple[float, float]): The same, of patch targets.
            Defaults to (0.04, 0.07).
        warmup_epochs (int): Defaults to 30.
        patch_start_epoch (int): Give it the ``start_epoch`` of ``MaskGenerator``. Defaults to 0.

    Raises:
        ValueError: If a temperature is not positive or a number of epochs negative; before
            training, if it is shorter than the warm-ups.
    """

    def __init__(
        self,
        temperature: tuple[float, float] = (0.04, 0.07),
        patch_temperature: tuple[float, float] = (0.04, 0.07),
        warmup_epochs: int = 30,
        patch_start_epoch: int = 0,
    ) -> None:
        check_ranges(
            type(self).__name__,
            {
                '(0, inf)': dict(temperature=temperature, patch_temperature=patch_temperature),
                '[0, inf)': dict(warmup_epochs=warmup_epochs, patch_start_epoch=patch_start_epoch),
            },
        )
        self.temperature = temperature
        self.patch_temperature = patch_temperature
        self.warmup_epochs = warmup_epochs
        self.patch_start_epoch = patch_start_epoch

    def before_train(self, runner: Runner) -> None:
        """Check lengths and model."""
        unwrap_model(runner, 'set_temperatures', type(self).__name__)
        needed = self.warmup_epochs + self.patch_start_epoch
        if needed > runner.max_epochs:
            raise ValueError(
                f'Training of {runner.max_epochs} epochs is shorter than the warm-up of the '
                f'teacher temperature, {needed} epochs: lower warmup_epochs (and '
                'patch_start_epoch) of TeacherTemperatureHook or raise max_epochs.'
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Set the temperatures of this epoch."""
        epoch = runner.epoch
        cls = linear(*self.temperature, epoch, self.warmup_epochs)
        patch = linear(
            *self.patch_temperature, max(epoch - self.patch_start_epoch, 0), self.warmup_epochs
        )
        if epoch < self.patch_start_epoch:
            patch = self.patch_temperature[0]
        model = unwrap_model(runner, 'set_temperatures', type(self).__name__)
        model.set_temperatures(cls, patch)
        runner.message_hub.update_scalar('train/teacher_temperature', cls)
        runner.message_hub.update_scalar('train/teacher_patch_temperature', patch)
