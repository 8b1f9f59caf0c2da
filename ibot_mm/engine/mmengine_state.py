# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every use of mmengine's private attributes from outside of a subclass, each by what it means.

A new mmengine that changes them fails in ``tests/test_engine/test_mmengine_state.py``.
"""

from typing import Any

from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner


def is_loaded(runner: Runner) -> bool:
    """Tell whether the runner has loaded a checkpoint, or needs none any more."""
    return bool(runner._has_loaded)


def mark_loaded(runner: Runner) -> None:
    """Keep the runner from loading again, at the test after a training."""
    runner._has_loaded = True


def requested_start(runner: Runner) -> tuple[str | None, bool]:
    """Return ``load_from`` and ``resume`` of the config."""
    return runner._load_from, bool(runner._resume)


def is_training(runner: Runner) -> bool:
    """Tell whether the training loop is built, which a test leaves out."""
    return isinstance(runner._train_loop, BaseLoop)


def randomness_of(runner: Runner) -> dict[str, Any]:
    """Return ``randomness`` of the config."""
    return dict(runner._randomness_cfg)


def set_progress(loop: BaseLoop, epoch: int, iteration: int) -> None:
    """Set the epochs and iterations that a training loop has done."""
    loop._epoch, loop._iter = epoch, iteration


def accumulation_of(wrapper: OptimWrapper) -> int:
    """Return the number of iterations of a step, ``accumulative_counts``."""
    return int(wrapper._accumulative_counts)


def histories_of(hub: MessageHub) -> dict[str, HistoryBuffer]:
    """Return the histories by name; the hub's property may wait for a GPU."""
    return hub._log_scalars


def resumed_keys_of(hub: MessageHub) -> dict[str, bool]:
    """Return, by name, what a checkpoint holds of the hub."""
    return hub._resumed_keys


def begin_again(sampler: Any) -> None:
    """Let an ``InfiniteSampler``, which began with another seed, take its present one."""
    if hasattr(sampler, '_indices_of_rank'):
        sampler.indices = sampler._indices_of_rank()
