# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Freezing of the prototypes in the first epochs."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.hooks.access import unwrap_model
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class FreezePrototypesHook(Hook):
    """Drops the prototypes' gradients just before the optimiser steps, in the first epochs.

    Dropped gradients (None, not 0) make the optimiser leave weights, moments and step count
    alone. Acting on the optimiser rather than through ``requires_grad`` leaves the graph the same
    in every epoch, which distributed training needs, and works with every optimiser wrapper.

    Args:
        epochs (int): Epochs with frozen prototypes. Defaults to 1.
    """

    def __init__(self, epochs: int = 1) -> None:
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Attach to the optimiser."""
        model = unwrap_model(runner, 'drop_prototype_gradients', type(self).__name__)

        def drop(*args: Any) -> None:
            if runner.epoch < self.epochs:
                model.drop_prototype_gradients()

        self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(drop)

    def after_train(self, runner: Runner) -> None:
        """Detach from the optimiser."""
        self._handle.remove()
