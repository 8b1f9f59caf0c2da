# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stop at a loss that is not finite."""

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Ends the training after a loss that is not finite, before anything is saved.

    Reading a loss waits for the GPU. So losses are read together, every ``interval`` iterations,
    after each epoch, and before each checkpoint, so that the last one on disk is a good one.

    Args:
        interval (int): Iterations between checks; 1 stops at once. Defaults to 50.

    Raises:
        ValueError: If the interval is below 1.
        FloatingPointError: With the number of the first such iteration, its losses and the way on.
    """

    priority = 'VERY_HIGH'

    def __init__(self, interval: int = 50) -> None:
        check_ranges(type(self).__name__, {'int [1, inf)': dict(interval=interval)})
        self.interval = interval
        self._unread: list[tuple[str, dict[str, Tensor]]] = []

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep this iteration's losses, and check if it is time."""
        if outputs is None:
            return
        place = f'iteration {runner.iter} (epoch {runner.epoch}, batch {batch_idx})'
        self._unread.append((place, {name: loss.detach() for name, loss in outputs.items()}))
        if len(self._unread) >= self.interval:
            self._check(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Check the last iterations of the epoch."""
        self._check(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check all iterations that the checkpoint comes from."""
        self._check(runner)

    def _check(self, runner: Runner) -> None:
        unread, self._unread = self._unread, []
        if not unread:
            return
        finite = torch.stack([losses['loss'] for _, losses in unread]).isfinite().tolist()
        if all(finite):
            return
        place, losses = unread[finite.index(False)]
        raise FloatingPointError(
            f'The loss is not finite at {place}: {self._values(losses)}. {self._way_on(runner)}'
        )

    @staticmethod
    def _values(losses: dict[str, Tensor]) -> str:
        return ', '.join(f'{name} {value.item():g}' for name, value in losses.items())

    @staticmethod
    def _way_on(runner: Runner) -> str:
        last = runner.message_hub.runtime_info.get('last_ckpt', None)
        resume = (
            f'The last checkpoint, {last}, is from before it: resume there'
            if last
            else 'No checkpoint was saved yet: start again'
        )
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        cause = model.explain_overflow() if hasattr(model, 'explain_overflow') else ''
        if cause:
            return f'{cause} {resume} with it.'
        return (
            f'{resume} with a lower learning rate, a smaller clip_grad.max_norm, a longer warm-up, '
            'or bf16 / float32 instead of fp16.'
        )
