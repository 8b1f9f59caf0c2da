# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Logged tensors that wait on their device until somebody reads them."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.registry import HOOKS


class DeferredMessageHub(MessageHub):
    """A message hub that takes tensors as they are and reads them when it is read itself.

    mmengine's hub reads each tensor at once, and every reading waits until the GPU has finished
    all work that was queued before.
    """

    _waiting: dict[str, list[tuple[Tensor, int, bool]]]  # values, counts, whether to resume

    @classmethod
    def take_over(cls, hub: MessageHub) -> None:
        """Make an existing hub, which others hold already, one of this class."""
        hub.__class__ = cls
        hub._waiting = {}

    def release(self) -> None:
        """Make it an ordinary hub again."""
        self._read(*self._waiting)
        self.__class__ = MessageHub

    def update_scalar(self, key: str, value: Any, count: int = 1, resumed: bool = True) -> None:
        """Add a value to the history of ``key``: a number now, a tensor later."""
        if isinstance(value, Tensor):
            self._waiting.setdefault(key, []).append((value.detach(), count, resumed))
        else:
            super().update_scalar(key, value, count, resumed)

    def get_scalar(self, key: str) -> HistoryBuffer:
        """History of one key; reads only what waits for it."""
        self._read(key)
        return self._log_scalars[key] if key in self._log_scalars else super().get_scalar(key)

    @property
    def log_scalars(self) -> Any:
        """Histories of all keys."""
        self._read(*self._waiting)
        return self._log_scalars

    def state_dict(self) -> dict:
        """As the base class, histories complete."""
        self._read(*self._waiting)
        return super().state_dict()

    def _read(self, *keys: str) -> None:
        waiting = [(key, *entry) for key in keys for entry in self._waiting.pop(key, [])]
        if not waiting:
            return
        values = torch.stack([value.reshape(()).double() for _, value, _, _ in waiting]).tolist()
        for (key, _, count, resumed), value in zip(waiting, values):
            super().update_scalar(key, value, count, resumed)


@HOOKS.register_module()
class DeferredLogHook(Hook):
    """Lets a training log losses without waiting for the GPU in each iteration.

    For its duration the runner's message hub is a :class:`DeferredMessageHub`. Whatever logs or
    reads goes on as before; the logger reads at its interval.
    """

    def before_train(self, runner: Runner) -> None:
        """Take over the hub."""
        DeferredMessageHub.take_over(runner.message_hub)

    def after_train(self, runner: Runner) -> None:
        """Give it back, complete."""
        runner.message_hub.release()
