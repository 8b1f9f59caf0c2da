# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What differs between the config of a checkpoint and that of the run that goes on from it."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import Runner

from .write import plain

MISSING = '(not set)'
# Where and how a run happens, not what it computes.
_IGNORED = (
    'work_dir', 'load_from', 'resume', 'launcher', 'experiment_name', 'custom_imports', 'log_level',
    'visualizer', 'vis_backends', 'default_hooks.logger', 'default_hooks.checkpoint',
    'model_wrapper_cfg', 'env_cfg',
)  # fmt: skip
# What a difference does, by the start of the key; the first that fits.
_EFFECTS = (
    ('randomness', 'what is sampled from here on differs from that run'),
    ('train_cfg.max_', 'the run ends there, and every schedule is that of such a run'),
    ('train_cfg', 'holds from here on'),
    ('train_dataloader.batch_size', 'the epoch has another number of iterations; the run ends '
     'where the config says; the learning rate is scaled if auto_scale_lr is enabled'),
    ('world_size', 'the epoch has another number of iterations; the run ends where the config '
     'says; the learning rate is scaled if auto_scale_lr is enabled'),
    ('auto_scale_lr', 'the learning rate is scaled by it'),
    ('optim_wrapper.accumulative_counts', 'steps are of that many iterations from here on'),
    ('optim_wrapper', 'holds from the next step; schedules start from it'),
    ('param_scheduler', 'the schedule is followed as if it had been so from the start'),
    ('train_dataloader.num_workers', 'changes the speed alone'),
    ('train_dataloader', 'the next batches come from it'),
    ('model', 'the weights fit; the network computes with it from here on'),
    ('default_hooks', 'holds from here on'),
    ('custom_hooks', 'holds from here on'),
    ('val_', 'the next validations use it'),
    ('test_', 'does not matter in training'),
)  # fmt: skip


def collect_settings(runner: Runner) -> dict[str, Any]:
    """Return all settings of a run by their keys, such as ``'optim_wrapper.optimizer.lr'``.

    Args:
        runner: Its runner.
    """
    settings = dict(_flatten(plain(runner.cfg.to_dict())))
    # Top-level names that configs keep for reuse are not read by the Runner.
    known = ('model', 'train_', 'val_', 'test_', 'optim_wrapper', 'param_scheduler', 'default_',
             'custom_', 'auto_scale_lr', 'randomness', 'data_preprocessor', 'compile',
             'activation_checkpointing', 'log_processor')  # fmt: skip
    settings = {
        key: value
        for key, value in settings.items()
        if key.startswith(known) and not key.startswith(('train_pipeline', 'val_pipeline'))
    }
    return settings | {'world_size': get_world_size()}


def describe_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting that differs: key, both values, and what it does.

    Args:
        old: Of the checkpoint, see :func:`collect_settings`.
        new: Of this run.
    """
    lines = []
    for key in sorted({*old, *new}):
        before, now = old.get(key, MISSING), new.get(key, MISSING)
        if _same(before, now) or key.startswith(_IGNORED):
            continue
        effect = next((text for start, text in _EFFECTS if key.startswith(start)), 'is used now')
        lines.append(f'{key}: {before!r} -> {now!r}: {effect}')
    return lines


def _same(before: Any, now: Any) -> bool:
    as_list = [list(v) if isinstance(v, tuple) else v for v in (before, now)]
    return bool(as_list[0] == as_list[1])


def _flatten(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Leaves of nested dicts and of lists of dicts."""
    if isinstance(value, Mapping):
        pairs: Any = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(v, Mapping | list) for v in value):
        pairs = enumerate(value)
    else:
        yield key, value
        return
    for name, entry in pairs:
        yield from _flatten(entry, f'{key}.{name}' if key else str(name))
