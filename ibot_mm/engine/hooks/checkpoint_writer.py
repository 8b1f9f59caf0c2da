# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a checkpoint hook writes, and which files it keeps."""

import os.path
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook
from mmengine.runner import Runner

from ibot_mm.engine.checkpointing import keep_newest, save_training
from ibot_mm.engine.checkpointing.search import LAST
from ibot_mm.engine.checkpointing.shard_writing import delete_checkpoint
from ibot_mm.engine.checkpointing.shards import SUFFIX
from ibot_mm.engine.checkpointing.write import write_text
from ibot_mm.functional.shards import has_shards


class CheckpointWriter(MMEngineCheckpointHook):
    """mmengine's hook, which saves whole files of finite states, and deletes old ones after it.

    Args:
        **kwargs: As mmengine's.
    """

    out_dir: str
    filename_tmpl: str

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._saved_at: tuple[int, int] | None = None  # epochs and iterations of the last file
        self._saved_time = time.monotonic()
        self.suffix = '.pth'
        self._group: Any = None  # of processes, while they write in the background
        self._wait: Callable[[], None] | None = None  # for a folder that is being written

    def before_train(self, runner: Runner) -> None:
        """Find the best checkpoints of before, wherever the folder is now.

        Raises:
            ValueError: If ``published_keys`` is set where checkpoints are folders.
        """
        if has_shards(runner.model):
            if self.published_keys:
                raise ValueError(
                    'CheckpointHook has no published_keys where processes share the weights: make '
                    'a file of the folder by tools/model_converters/merge_shards.py.'
                )
            self.suffix = SUFFIX
            self.filename_tmpl = f'{Path(self.filename_tmpl).stem}{SUFFIX}'
            self._group = self._group or dist.new_group(backend='gloo')
        super().before_train(runner)
        self._saved_time = time.monotonic()
        self._best_paths = {
            key: path and os.path.join(self.out_dir, os.path.basename(path))
            for key, path in self._best_paths.items()
        }

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict[str, int]) -> None:
        """Take the place of mmengine's, which deletes first and writes in place."""
        self._save(runner, self.filename_tmpl.format(step), meta['epoch'], meta['iter'])

    def _save(self, runner: Runner, name: str, epoch: int, iteration: int) -> None:
        self.finish_saving()
        path = os.path.join(self.out_dir, name)

        def complete() -> None:
            # Relative, so that the folder can move.
            write_text(os.path.relpath(path, runner.work_dir), Path(runner.work_dir) / LAST)
            if self.max_keep_ckpts > 0:
                keep_newest(self.out_dir, self.max_keep_ckpts)

        self._wait = save_training(
            runner,
            path,
            epoch,
            iteration,
            self.save_optimizer,
            self.save_param_scheduler,
            self._group,
            complete,
        )
        self.last_ckpt = path
        self._saved_at = (epoch, iteration)
        self._saved_time = time.monotonic()
        runner.message_hub.update_info('last_ckpt', path)

    def finish_saving(self) -> None:
        """Wait for a folder that is being written; all processes call it.

        Raises:
            DiskFullError: On all processes, if the disk is full.
            CheckpointFileError: On all processes, if it could not be written.
        """
        wait, self._wait = self._wait, None
        if wait is not None:
            wait()

    @property
    def _best_paths(self) -> dict[str, str | None]:
        """The best checkpoint of each metric; mmengine has two places for them."""
        if hasattr(self, 'best_ckpt_path'):
            return {'': self.best_ckpt_path}
        return dict(getattr(self, 'best_ckpt_path_dict', {}))

    @_best_paths.setter
    def _best_paths(self, paths: dict[str, str | None]) -> None:
        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = paths['']
        elif paths:
            self.best_ckpt_path_dict = paths

    def _save_best_checkpoint(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Delete the best checkpoint of before after the new one is saved, not before it."""
        before = self._best_paths
        self._best_paths = dict.fromkeys(before)  # so that mmengine deletes nothing
        super()._save_best_checkpoint(runner, metrics)
        now = {key: path or before.get(key) for key, path in self._best_paths.items()}
        self._best_paths = now
        if is_main_process():
            for path in set(before.values()) - set(now.values()):
                if path is not None:
                    delete_checkpoint(Path(path))

    def _save_as_runner(
        self,
        runner: Runner,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Take ``Runner.save_checkpoint``'s place, by which the best checkpoint is saved."""
        meta = meta or {}
        self.finish_saving()
        self._wait = save_training(
            runner,
            os.path.join(out_dir, filename),
            meta.get('epoch', runner.epoch + by_epoch),
            meta.get('iter', runner.iter + (not by_epoch)),
            save_optimizer,
            save_param_scheduler,
            self._group,
        )
        self.finish_saving()
