# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Memory of the best classifier of a sweep."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class KeepBestHeadHook(Hook):
    """Tells a :class:`ibot_mm.LinearSweepHead` after each validation which classifier is best.

    So a checkpoint can be used as the classifier that its validation chose. The hook runs before
    mm's hook that keeps the best checkpoint.

    Args:
        key (str): Name of the metric. Defaults to 'sweep/best_head'.
    """

    def __init__(self, key: str = 'sweep/best_head') -> None:
        self.key = key

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Set ``best_head``."""
        if metrics and self.key in metrics:
            model = getattr(runner.model, 'module', runner.model)
            model.head.best_head.fill_(int(metrics[self.key]))
