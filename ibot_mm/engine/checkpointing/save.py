# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Saving of a training: collected from all processes, checked, written by the main one."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ibot_mm.engine.mmengine_state import accumulation_of
from ibot_mm.functional.shards import has_shards
from ibot_mm.version import __version__, find_commit

from .errors import DiskFullError, is_disk_full, run_on_main
from .finite import find_nonfinite
from .gradients import gather_gradients
from .history import collect_history
from .settings import collect_settings
from .shard_writing import write_shards
from .write import disk_full_message, write_checkpoint


def save_training(
    runner: Runner,
    path: str | Path,
    epoch: int,
    iteration: int,
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    group: Any = None,
    completed: Callable[[], None] = lambda: None,
) -> Callable[[], None]:
    """Save a checkpoint; all processes must call it, and all leave it alike.

    Args:
        runner: A runner in training.
        path: The file; of a model that processes share, the folder.
        epoch: Epochs that are complete.
        iteration: Iterations that are complete.
        save_optimizer: Whether to save what resuming needs beside weights. Defaults to True.
        save_param_scheduler: Whether to save the schedulers' state. Defaults to True.
        group: As of :func:`write_shards`. Defaults to None, which does for other models.
        completed: Called on the main process when all is written. Defaults to nothing.

    Returns:
        To call on all processes before the next save and at the end: waits until a folder is
        written, see :func:`write_shards`. Of a file nothing is left to wait for.

    Raises:
        FloatingPointError: On all processes, if on any of them a weight, a moment, a center or the
            teacher is not finite. The state is then written under a name that starts with
            ``nonfinite_``, from which no training goes on by itself.
        DiskFullError: On all processes, if the disk is full.
        CheckpointFileError: On the other processes, if the main one met another error.
    """
    runner.call_hook('prepare_checkpoint')  # not mmengine's: hooks complete log history and counts
    path = Path(path)
    nonfinite = find_nonfinite(runner)
    if nonfinite:
        path = path.with_name(f'nonfinite_{path.name}')
    gradients = gather_gradients(runner) if save_optimizer else []

    def write() -> None:
        content = _collect(runner, epoch, iteration, save_optimizer, save_param_scheduler)
        if gradients:
            content['gradients'] = gradients
        _add(runner, content)
        try:
            write_checkpoint(content, path)
        except OSError as error:
            if not is_disk_full(error):
                raise
            raise DiskFullError(disk_full_message(path)) from error
        if not nonfinite:
            completed()

    wait: Callable[[], None] = lambda: None  # noqa: E731
    if has_shards(runner.model):
        content = _collect(runner, epoch, iteration, save_optimizer, save_param_scheduler)
        if gradients:
            content['gradients'] = gradients
        add = partial(_add, runner)
        wait = write_shards(content, path, group, add, (lambda: None) if nonfinite else completed)
    else:
        run_on_main(write)
    if nonfinite:
        wait()
        last = runner.message_hub.get_info('last_ckpt')
        raise FloatingPointError(
            f'The state after iteration {iteration} is not finite ({"; ".join(nonfinite)}), so it '
            f'is not a checkpoint to go on from; see {path} for what it holds. '
            f'The last good checkpoint is {last or "none"}. Go on from there, or start again, with '
            'a lower learning rate, a smaller clip_grad.max_norm, a longer warm-up, bf16 or '
            'float32 instead of fp16, or ibot_mm.SkipBadStepsHook as default_hooks.finite_loss.'
        )
    return wait


def _add(runner: Runner, content: dict[str, Any]) -> None:
    """Let hooks add to a checkpoint."""
    runner.call_hook('before_save_checkpoint', checkpoint=content)


def _collect(
    runner: Runner, epoch: int, iteration: int, save_optimizer: bool, save_param_scheduler: bool
) -> dict[str, Any]:
    """All that a checkpoint holds, in mmengine's form where that has one."""
    settings = collect_settings(runner)
    meta = dict(
        epoch=epoch,
        iter=iteration,
        epoch_length=len(runner.train_dataloader),
        images_per_iteration=images_per_iteration(runner),
        images_seen=images_seen(runner, iteration),
        accumulative_counts=accumulation_of(runner.optim_wrapper),
        settings=settings,
        cfg=runner.message_hub.get_info('cfg') or runner.cfg.pretty_text,  # a second to make
        seed=runner.seed,
        experiment_name=runner.experiment_name,
        time=time.strftime('%Y%m%d_%H%M%S'),
        mmengine_version=mmengine.__version__,
        torch_version=str(torch.__version__),
        ibot_mm_version=__version__,
        ibot_mm_commit=find_commit(),
    )
    if hasattr(runner.train_dataloader.dataset, 'metainfo'):
        meta['dataset_meta'] = runner.train_dataloader.dataset.metainfo
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    content = dict(meta=meta, state_dict=model.state_dict(), **collect_history(runner.message_hub))
    if save_optimizer:
        content['optimizer'] = runner.optim_wrapper.state_dict()
    if save_param_scheduler and runner.param_schedulers is not None:
        content['param_schedulers'] = [
            scheduler.state_dict() for scheduler in runner.param_schedulers
        ]
    return content


def images_seen(runner: Runner, iteration: int) -> int:
    """Count the images of all processes since the start, also if a resume changed the batch size.

    Args:
        runner: A runner in training.
        iteration: Iterations that are complete.
    """
    images, since = getattr(runner.train_loop, 'resumed_at', None) or (0, 0)
    return images + (iteration - since) * images_per_iteration(runner)


def images_per_iteration(runner: Runner) -> int:
    """Count the images of all processes in one iteration.

    Args:
        runner: A runner in training.
    """
    loader = runner.train_dataloader
    size = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 1)
    return int(size) * int(runner.world_size)
