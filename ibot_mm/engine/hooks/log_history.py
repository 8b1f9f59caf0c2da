# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Bounded histories of logged values."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.engine.mmengine_state import histories_of
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class LogHistoryHook(Hook):
    """Bounds the history that mmengine keeps of each logged value, in memory and in checkpoints.

    mmengine keeps the last million and copies all of them at each iteration. Files of the log, such
    as ``scalars.json``, hold every value that was logged, all the same.

    Args:
        max_length (int): Values to keep. A window of the ``log_processor`` that is longer, 'epoch'
            or 'global', averages over as many; of 'epoch' all are kept. Defaults to 10000.

    Raises:
        ValueError: If ``max_length`` is below 1.
    """

    priority = 'VERY_HIGH'

    def __init__(self, max_length: int = 10_000) -> None:
        if max_length < 1:
            raise ValueError(f'max_length of LogHistoryHook must be at least 1, got {max_length}.')
        self.max_length = max_length

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Bound the histories; each cuts itself at its next value."""
        length = max(self.max_length, len(runner.train_dataloader))
        for buffer in histories_of(runner.message_hub).values():
            buffer.max_length = length
