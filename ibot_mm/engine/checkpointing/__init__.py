# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .errors import CheckpointFileError, DiskFullError, is_disk_full, run_on_main
from .read import (
    find_fault,
    force_safe_loading,
    load_weights,
    read_checkpoint,
    safe_loading,
    use_weights,
)
from .resume import resume_training
from .save import save_training
from .search import find_newest, keep_newest, list_checkpoints, set_aside
from .start import find_start
from .write import write_checkpoint

__all__ = [
    'CheckpointFileError',
    'DiskFullError',
    'find_fault',
    'find_newest',
    'find_start',
    'force_safe_loading',
    'is_disk_full',
    'keep_newest',
    'list_checkpoints',
    'load_weights',
    'read_checkpoint',
    'resume_training',
    'run_on_main',
    'safe_loading',
    'save_training',
    'set_aside',
    'use_weights',
    'write_checkpoint',
]
