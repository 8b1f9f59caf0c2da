# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Progress bars for people who watch."""

from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class ProgressBarHook(Hook):
    """A bar with the time left for training, validation and test, on the main process.

    The training bar shows the loss that was last handed to the message hub, which with
    :class:`DeferredRuntimeInfoHook` is that of the last line in the log. Where the output is not a
    terminal, a bar is one line at its end. Set the logger's interval high, since its lines
    interrupt the bar.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def _start(self, name: str, total: int, completed: int = 0) -> None:
        if not is_main_process():
            return
        if self._progress is None:
            columns = (
                TextColumn('{task.description:<12}'),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(elapsed_when_finished=True),
                TextColumn('{task.fields[note]}'),
            )
            self._progress = Progress(*columns)
            self._progress.start()
        self._tasks[name] = self._progress.add_task(name, total=total, completed=completed, note='')

    def _advance(self, name: str, note: str = '') -> None:
        if self._progress is not None:
            self._progress.update(self._tasks[name], advance=1, note=note)

    def _finish(self, name: str) -> None:
        if self._progress is None:
            return
        task = self._tasks.pop(name)
        if self._tasks:  # validation inside a training: only its own bar goes
            self._progress.remove_task(task)
        else:
            self._progress.stop()
            self._progress = None

    def before_train(self, runner: Runner) -> None:
        """Start the bar of the training."""
        self._start('training', runner.max_iters, runner.iter)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Advance it."""
        notes = [] if runner.max_epochs == 1 else [f'epoch {runner.epoch + 1}/{runner.max_epochs}']
        scalars = runner.message_hub.log_scalars
        if 'train/loss' in scalars:
            notes.append(f'loss {scalars["train/loss"].current():.3f}')
        self._advance('training', '  '.join(notes))

    def after_train(self, runner: Runner) -> None:
        """End it."""
        self._finish('training')

    def before_val_epoch(self, runner: Runner) -> None:
        """Start the bar of a validation."""
        self._start('validation', len(runner.val_dataloader))

    def after_val_iter(self, *args: Any, **kwargs: Any) -> None:
        """Advance it."""
        self._advance('validation')

    def after_val_epoch(self, *args: Any, **kwargs: Any) -> None:
        """End it."""
        self._finish('validation')

    def before_test_epoch(self, runner: Runner) -> None:
        """Start the bar of a test."""
        self._start('test', len(runner.test_dataloader))

    def after_test_iter(self, *args: Any, **kwargs: Any) -> None:
        """Advance it."""
        self._advance('test')

    def after_test_epoch(self, *args: Any, **kwargs: Any) -> None:
        """End it."""
        self._finish('test')
