# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a training adds to the weights it starts from."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS

KEY = 'start_metrics'


@HOOKS.register_module()
class CompareWithStartHook(Hook):
    """Validates before the first step, and after each validation logs start and now side by side.

    The start is kept in checkpoints: a resumed training compares with the same. Without validation,
    for images that have no labels, one warning says that nothing is measured.
    """

    priority = 'LOWEST'  # after all that prepares a training

    def before_train(self, runner: Runner) -> None:
        """Validate, where nothing was trained yet."""
        if runner.val_loop is None:
            runner.logger.warning(
                'The start is not measured: the config has no validation (val_dataloader, '
                'val_cfg, val_evaluator), which for k-NN needs labels.'
            )
        elif runner.iter == 0:
            runner.message_hub.update_info(KEY, runner.val_loop.run())

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log each metric of the start, of now, and the difference."""
        start = runner.message_hub.get_info(KEY)
        if not (start and metrics):
            return
        lines = [
            f'{name}: start {start[name]:.4g}, now {value:.4g} ({value - start[name]:+.4g})'
            for name, value in metrics.items()
            if name in start
        ]
        runner.logger.info(f'After {runner.iter} iterations:\n' + '\n'.join(lines))
