# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""When a training is saved, how it stops on request, and the way back into it."""

import os.path
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.dist import barrier, is_main_process
from mmengine.runner import Runner

from ibot_mm.engine.checkpointing import (
    CheckpointFileError,
    DiskFullError,
    find_start,
    read_checkpoint,
    resume_training,
    run_on_main,
    use_weights,
)
from ibot_mm.engine.checkpointing.shard_writing import remove_unfinished
from ibot_mm.engine.checkpointing.stopping import (
    SAVE,
    STOP,
    Agreement,
    StopSignals,
    TrainingStopped,
    announce,
)
from ibot_mm.engine.distributed import read_timeout
from ibot_mm.engine.loops import VALIDATED
from ibot_mm.engine.mmengine_state import is_loaded, is_training, mark_loaded, requested_start
from ibot_mm.registry import HOOKS

from .checkpoint_writer import CheckpointWriter


@HOOKS.register_module()
class CheckpointHook(CheckpointWriter):
    """Takes the place of mmengine's: ``default_hooks=dict(checkpoint=dict(type=...))``.

    It saves at the same times and under the same names, and differs in this:

    - A file is whole or not there, has checksums, and is of plain data. The one before is deleted
      after it, not before it.
    - Of a model that processes share (:class:`ibot_mm.ShardedDataParallel`) it is a folder,
      ``epoch_3.dcp``, written while the training goes on, and read by any number of processes.
    - A state that is not finite, on any process, is never a checkpoint, and ends the training.
    - SIGTERM, SIGUSR1 and Ctrl-C save after the present iteration and end all processes with exit
      status 75.
    - ``resume=True`` goes on from the newest valid checkpoint in the work dir, wherever the folder
      is now, and from any iteration (see :mod:`ibot_mm.engine.loops`). Progress and state come from
      the checkpoint, numbers from the config; each difference is logged.
    - Without ``resume``, a work dir with checkpoints is an error, unless ``start_again`` is set.
    - Files are read without running what they hold, in ``load_from`` and ``resume``.

    Args:
        interval (int): Epochs or iterations between checkpoints, -1 for never. Defaults to -1.
        by_epoch (bool): Whether ``interval`` counts epochs. Defaults to True.
        minutes (float, optional): Save also when the last checkpoint is that old. Defaults to None.
        max_keep_ckpts (int): Checkpoints to keep, the newest; -1 for all. Defaults to -1.
        start_again (bool): Where the work dir has checkpoints and ``resume`` is not set, move them
            to a folder ``before_...`` in it and start. Defaults to False, an error.
        save_best (str | list[str], optional): As mmengine's, with its defaults. So are
            ``save_optimizer``, ``save_param_scheduler``, ``save_last``, ``rule``, ``greater_keys``,
            ``less_keys``, ``published_keys`` and ``save_begin``.
        out_dir (str, optional): As mmengine's; a folder of this machine. Defaults to None, the work
            dir.

    Raises:
        TypeError: If an argument is misspelt.
        ValueError: If ``interval`` or ``max_keep_ckpts`` is 0, or ``minutes`` is not positive.
    """

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        minutes: float | None = None,
        max_keep_ckpts: int = -1,
        start_again: bool = False,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        out_dir: str | None = None,
        save_last: bool = True,
        save_best: str | list[str] | None = None,
        rule: str | list[str] | None = None,
        greater_keys: Sequence[str] | None = None,
        less_keys: Sequence[str] | None = None,
        published_keys: str | list[str] | None = None,
        save_begin: int = 0,
    ) -> None:
        for name, value in (('interval', interval), ('max_keep_ckpts', max_keep_ckpts)):
            if value == 0 or value < -1:
                raise ValueError(f'{name} of CheckpointHook is {value}: 1 or more, or -1.')
        if minutes is not None and not minutes > 0:
            raise ValueError(f'minutes of CheckpointHook is {minutes}: more than 0, or None.')
        super().__init__(
            interval=interval,
            by_epoch=by_epoch,
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            out_dir=out_dir,
            max_keep_ckpts=max_keep_ckpts,
            save_last=save_last,
            save_best=save_best,
            rule=rule,
            greater_keys=greater_keys,
            less_keys=less_keys,
            published_keys=published_keys,
            save_begin=save_begin,
        )
        self.minutes = minutes
        self.start_again = start_again
        self.signals = StopSignals()
        self._is_training = False
        self._finish_resuming: Callable[[], None] | None = None

    # Starting

    def before_run(self, runner: Runner) -> None:
        """Take over loading and saving from the runner, which gives no other place for it."""
        runner.load_or_resume = partial(self._load_or_resume, runner)
        runner.save_checkpoint = partial(self._save_as_runner, runner)

    def _folder(self, runner: Runner) -> Path:
        """Where checkpoints will lie, before the training; by mmengine's rule for ``out_dir``."""
        if self.out_dir in (None, runner.work_dir):
            return Path(runner.work_dir)
        return Path(self.out_dir) / os.path.basename(runner.work_dir.rstrip(os.sep))

    def _load_or_resume(self, runner: Runner) -> None:
        """Take the place of ``Runner.load_or_resume``."""
        if is_loaded(runner):
            return
        start, resume = requested_start(runner)
        if is_training(runner):
            options = self._folder(runner), start, resume, self.start_again
            start = run_on_main(partial(find_start, *options))
            # Once: a test after the training must not look for a place to start again.
            mark_loaded(runner)
            if resume:
                if start is not None:
                    self._finish_resuming = resume_training(runner, start)
                return
        if start is None:
            return
        content = read_checkpoint(start)
        runner.call_hook('after_load_checkpoint', checkpoint=content)
        use_weights(getattr(runner.model, 'module', runner.model), content, start)
        runner.logger.info(f'Load checkpoint from {start}')
        mark_loaded(runner)

    def before_train(self, runner: Runner) -> None:
        """Note signals from here on, and remove what a killed run left half-written."""
        super().before_train(runner)
        if is_main_process():
            remove_unfinished(Path(self.out_dir))
        if self._finish_resuming is not None:
            self._finish_resuming()
            self._finish_resuming = None
        self.agreement = Agreement(read_timeout(runner.cfg))
        self.signals.install()
        self._is_training = True

    def after_train(self, runner: Runner) -> None:
        """Wait for what is being written, and give the signals back."""
        self.finish_saving()
        self.release_signals(runner)
        super().after_train(runner)

    def release_signals(self, runner: Runner) -> None:
        """Give the signals back, also after an error (called by the loops of this package).

        A folder that is being written is waited for: who goes on from here finds it whole.
        """
        with suppress(CheckpointFileError, DiskFullError):  # an error is under way, or it was told
            self.finish_saving()
        self._is_training = False
        self.signals.remove()

    # Saving

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Save where it is time or somebody asks, and stop on request."""
        super().after_train_iter(runner, batch_idx, data_batch, outputs)
        is_old = (
            self.minutes is not None and time.monotonic() - self._saved_time >= 60 * self.minutes
        )
        request = STOP if self.signals.received else SAVE if is_old and is_main_process() else 0
        agreed = self.agreement.reach(request)
        if agreed:
            self._save_now(runner, runner.epoch, runner.iter + 1)
        if agreed == STOP:
            announce(self.signals.received, runner.iter + 1)
            self.stop()

    def after_train_epoch(self, runner: Runner) -> None:
        """Save where it is time, and stop on request."""
        super().after_train_epoch(runner)
        epoch = runner.epoch + (not hasattr(runner.train_loop, 'dataloader_iterator'))
        if runner.train_loop.stop_training:  # a hook ends it before its time
            self._save_now(runner, epoch, runner.iter)
        self._stop_between(runner, epoch)

    def after_val_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Stop on request; the validation is made up for when the training goes on.

        Several processes, which need not have equal numbers of batches, finish it.
        """
        if self._is_training and runner.world_size == 1:
            self._stop_between(runner, runner.epoch)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note that this place is validated, save the best, and stop on request."""
        if self._is_training:
            runner.message_hub.update_info(VALIDATED, runner.iter)
            self._saved_at = None  # the last file does not know of the validation
        super().after_val_epoch(runner, metrics or {})
        if self._is_training:
            self._stop_between(runner, runner.epoch)

    def _stop_between(self, runner: Runner, epoch: int) -> None:
        if self.agreement.reach(STOP if self.signals.received else 0) == STOP:
            self._save_now(runner, epoch, runner.iter)
            announce(self.signals.received, runner.iter)
            self.stop()

    def stop(self) -> None:
        """End this process, after all have saved."""
        self.finish_saving()
        self.signals.remove()
        barrier()
        raise TrainingStopped

    def _save_now(self, runner: Runner, epoch: int, iteration: int) -> None:
        """Save outside of the regular intervals, unless that was just done."""
        if self._saved_at == (epoch, iteration):
            return
        length = len(runner.train_dataloader)
        if not self.by_epoch or hasattr(runner.train_loop, 'dataloader_iterator'):
            name = f'iter_{iteration}{self.suffix}'
        elif iteration == epoch * length:
            name = f'epoch_{epoch}{self.suffix}'
        else:
            name = f'epoch_{epoch}_iter_{iteration - epoch * length}{self.suffix}'
        self._save(runner, name, epoch, iteration)
