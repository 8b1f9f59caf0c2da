# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Freezing of parts at the start."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.clock import read_clock
from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import HOOKS


class _FreezeHook(Hook):
    """Drops a part's gradients just before the optimizer steps, in the first epochs.

    Dropped gradients (None, not 0) make the optimizer leave weights, moments and step count
    alone. Acting on the optimizer rather than through ``requires_grad`` leaves the graph the same
    throughout, which distributed training needs, and works with every optimizer wrapper.
    """

    method: str  # of the model, that drops the gradients

    def __init__(self, epochs: float = 1) -> None:
        check_ranges(type(self).__name__, {'[0, inf)': dict(epochs=epochs)})
        self.epochs = epochs

    def before_train(self, runner: Runner) -> None:
        """Attach to the optimizer."""
        drop = getattr(unwrap_model(runner, self.method, type(self).__name__), self.method)
        drop()  # nothing yet: a model that cannot says so here

        def before_step(*args: Any) -> None:
            clock = read_clock(runner)
            if clock.step < clock.steps(self.epochs):
                drop()

        self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(before_step)

    def after_train(self, runner: Runner) -> None:
        """Detach from the optimizer."""
        self._handle.remove()


@HOOKS.register_module()
class FreezePrototypesHook(_FreezeHook):
    """Keeps the prototypes as they are in the first epochs, while what they are for settles.

    Args:
        epochs (float): Epochs with frozen prototypes; passes through the data in a loop by
            iterations. Defaults to 1.
    """

    method = 'drop_prototype_gradients'


@HOOKS.register_module()
class FreezePatchEmbeddingHook(_FreezeHook):
    """Keeps the patch embedding as it is in the first epochs.

    Where a training gets unstable, as the start with new heads may be, gradients burst in this
    layer first (Chen et al., arXiv 2104.02057).

    Args:
        epochs (float): Epochs with a frozen patch embedding; passes through the data in a loop by
            iterations. Defaults to 1.
    """

    method = 'drop_patch_embedding_gradients'
