# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Count of images that could not be read."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.hooks.unwrap import training_transforms
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class SkippedImagesHook(Hook):
    """After each epoch, says how many images ``LoadImage(on_error='skip')`` has skipped so far."""

    def after_train_epoch(self, runner: Runner) -> None:
        """Report, where there were any."""
        skipped = sum(getattr(transform, 'skipped', 0) for transform in training_transforms(runner))
        if skipped:
            runner.logger.warning(
                f'{skipped} images could not be read and were skipped since the start of this run '
                'on this process; each is named in the log where it was met.'
            )
