# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Logged tensors that wait on their device until the logger reads them."""

from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.registry import HOOKS

INTERVAL = 50  # where nothing logs


class WaitingScalars:
    """Takes what is logged, and hands it over to a message hub later.

    mmengine's hub reads each tensor at once, and every reading waits until the GPU has finished
    all work that was queued before. Here tensors wait, to be read together; numbers do not.

    Args:
        hub: The message hub.
    """

    def __init__(self, hub: MessageHub) -> None:
        self._hub = hub
        self._waiting: list[tuple[str, Tensor, int, bool]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Add a value to the history of ``key``: a number now, a tensor later.

        Raises:
            ValueError: If a tensor is not of one element.
        """
        if not isinstance(value, Tensor):
            self._hub.update_scalar(key, value, count, resumed)
        elif value.numel() != 1:
            raise ValueError(f'{key} has shape {tuple(value.shape)}; one number can be logged')
        else:
            self._waiting.append((key, value.detach().reshape(()), count, resumed))

    def hand_over(self) -> None:
        """Read what waits, in its order, at once."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        # Not all devices have float64.
        is_double = any(value.dtype == torch.float64 for _, value, _, _ in waiting)
        dtype = torch.float64 if is_double else torch.float32
        values = torch.stack([value.to(dtype) for _, value, _, _ in waiting]).tolist()
        for (key, _, count, resumed), value in zip(waiting, values):
            self._hub.update_scalar(key, value, count, resumed)


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """Does what mmengine's ``RuntimeInfoHook`` does, without waiting for the GPU each iteration.

    Losses, and what the optimizer wrapper logs, are handed to the message hub as tensors at the
    logger's interval, at the end of an epoch and before a checkpoint. In between the hub has what
    the logger has.

    ``default_hooks=dict(runtime_info=dict(type='ibot_mm.DeferredRuntimeInfoHook'))``
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._scalars: WaitingScalars | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to collect."""
        super().before_train(runner)
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._intervals = [logger.interval for logger in loggers] or [INTERVAL]
        self._scalars = WaitingScalars(runner.message_hub)
        for wrapper in _wrappers(runner):
            wrapper.message_hub = self._scalars

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Keep losses, and hand over if the logger is about to read."""
        assert self._scalars is not None
        for key, value in (outputs or {}).items():
            self._scalars.update_scalar(f'train/{key}', value)
        is_due = any(self.every_n_inner_iters(batch_idx, n) for n in self._intervals)
        if is_due or self.end_of_epoch(runner.train_dataloader, batch_idx):
            self.hand_over(runner)

    def prepare_checkpoint(self, runner: Runner) -> None:
        """Complete the histories before this package's checkpoint hook collects them."""
        self.hand_over(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Complete the histories that it holds, as mmengine collected them."""
        if self._scalars and checkpoint['message_hub']['log_scalars']:
            self.hand_over(runner)
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def after_train(self, runner: Runner) -> None:
        """Hand over the rest."""
        self.hand_over(runner)
        for wrapper in _wrappers(runner):
            wrapper.message_hub = runner.message_hub
        super().after_train(runner)

    def hand_over(self, runner: Runner) -> None:
        """Hand over now; waits for the device.

        ``runner.call_hook('hand_over')`` brings the message hub up to date, for whoever reads or
        saves values of the last iterations.
        """
        if self._scalars is not None:
            self._scalars.hand_over()


def _wrappers(runner: Runner) -> Iterator[OptimWrapper]:
    wrapper = runner.optim_wrapper
    yield from wrapper.values() if isinstance(wrapper, OptimWrapperDict) else [wrapper]
