# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training in this process, from its signals to its exit status."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmengine.config import Config


def prepare_process() -> None:
    """Refuse checkpoints that run code, and let signals save; first of all, before a config."""
    from .engine.checkpointing import force_safe_loading
    from .engine.checkpointing.stopping import leave_on_signals

    force_safe_loading()
    leave_on_signals()


def run_training(cfg: 'Config', options: Mapping[str, Any] | None = None) -> None:
    """Check a config, train by it, and end the processes together.

    Args:
        cfg: Of the training, with ``work_dir`` and ``launcher``.
        options: What the command line changed of it, for messages. Defaults to nothing.

    Raises:
        SystemExit: If the config has faults, or the training ended with another status than 0;
            docs/reliability.md has a table.
    """
    from mmengine.logging import print_log

    from .config_check import stop_at_faults
    from .engine.checkpointing import DiskFullError, is_disk_full
    from .engine.checkpointing.stopping import NO_ROOM, NotBegun, TrainingStopped
    from .engine.distributed import (
        finish_processes,
        naming_stalled_processes,
        prepare_cpu_processes,
        tell_status,
    )
    from .engine.roll_back import train_with_roll_backs
    from .engine.sharding import refuse_one_process

    try:
        stop_at_faults(cfg, options)
    except SystemExit as end:
        if not isinstance(end, NotBegun):
            tell_status(1)
        raise
    refuse_one_process(cfg)
    prepare_cpu_processes(cfg)
    status, together = 0, True
    try:
        with naming_stalled_processes():
            train_with_roll_backs(cfg)
    except NotBegun:
        raise  # without the others; torchrun, too, ends processes by a signal, after a failure
    except TrainingStopped as stop:
        status = int(stop.code or 0)
    except OSError as error:
        if not is_disk_full(error):
            raise
        together = isinstance(error, DiskFullError)  # else a file that one process writes
        print_log(f'{"" if together else "The disk is full: "}{error}', 'current', logging.ERROR)
        status = NO_ROOM
    finish_processes(status, together)
