# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Further lines in the log: images per second, weight decay."""

from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class TrainingLogHook(Hook):
    """Logs images per second of all processes and the weight decay of the decayed group.

    Everything else in the log comes from mmengine, the losses and the other hooks.
    """

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Record this iteration."""
        hub = runner.message_hub
        images = runner.train_dataloader.batch_size * get_world_size()
        hub.update_scalar('train/img_per_s', images / hub.get_scalar('train/time').current())
        decays = [group['weight_decay'] for group in runner.optim_wrapper.param_groups]
        hub.update_scalar('train/weight_decay', max(decays))
