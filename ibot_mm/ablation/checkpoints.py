# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every kept checkpoint of a training, beside what was monitored up to it."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing.read import find_fault
from ibot_mm.engine.checkpointing.search import list_checkpoints
from ibot_mm.evaluation import write_results
from ibot_mm.visualization import find_scalars, read_curves

from .check import read_plan
from .measure import measure_checkpoint

MEASURED = 'checkpoints.json'
# Beside what MonitorHook measures: quantities that every training logs.
LOGGED = ('loss_cls', 'loss_patch', 'agreement', 'grad_norm')
PREFIX = 'monitor/'
_NAME = re.compile(r'(?:epoch|iter)_(\d+)\.pth')  # none that an interruption left

Row = dict[str, Any]


def measure_checkpoints(work_dir: str | Path) -> list[Row]:
    """Measure all checkpoints of a training of an ablation, and keep the numbers in its folder.

    To have more than the last one, train with ``default_hooks.checkpoint.max_keep_ckpts=-1``,
    ``default_hooks.checkpoint.interval`` and ``train_cfg.val_interval`` of the same number.

    Args:
        work_dir: ``DIR/ARM/seed_N``.

    Returns:
        One row a checkpoint, oldest first: ``time`` in epochs or iterations, ``metrics`` as of
        :func:`~ibot_mm.ablation.measure.measure_run`, ``monitors`` with the mean of each monitor
        and logged loss since the validation before.

    Raises:
        FileNotFoundError: If the folder is not of an ablation.
    """
    work_dir = Path(work_dir)
    plan = read_plan(work_dir.parents[1])
    if plan is None:
        raise FileNotFoundError(f'{work_dir} is not DIR/ARM/seed_N of an ablation in DIR')
    key = plan['keys'][work_dir.parent.name]
    path = work_dir / MEASURED
    before = json.loads(path.read_text()) if path.is_file() else {}
    known = {row['checkpoint']: row for row in before.get('rows', [])}
    if before.get('key') != key:
        known = {}
    config = work_dir.parent / 'config.py'
    cfg = load_config(config)
    curves, _ = read_curves(find_scalars(work_dir))
    rows: list[Row] = []
    for checkpoint in reversed(list_checkpoints(work_dir)):
        match, fault = _NAME.fullmatch(checkpoint.name), find_fault(checkpoint)
        if match is None or fault:
            reason = fault or 'it was left by an interruption'
            print_log(f'{checkpoint} is passed over: {reason}', 'current')
            continue
        row = known.get(checkpoint.name)
        if row is None:
            metrics = measure_checkpoint(checkpoint, config, cfg, plan['evaluation'])
            row = dict(checkpoint=checkpoint.name, time=float(match[1]), metrics=metrics)
        start = rows[-1]['time'] if rows else 0.0
        rows.append(row | dict(monitors=read_monitors(curves, start, row['time'])))
        write_results(path, dict(key=key, rows=rows))
    return rows


def read_monitors(
    curves: Mapping[str, Sequence[tuple[float, float]]], start: float, end: float
) -> dict[str, float]:
    """Return the monitors of the validation at ``end``, and means of logged losses before it.

    Args:
        curves: See :func:`ibot_mm.visualization.read_curves`.
        start: Of the time that losses are averaged over, exclusive.
        end: Of it, inclusive.
    """
    found = {
        name.removeprefix(PREFIX): dict(curve)[end]
        for name, curve in curves.items()
        if name.startswith(PREFIX) and end in dict(curve)
    }
    for name in LOGGED:
        values = [value for time, value in curves.get(name, ()) if start < time <= end]
        if values:
            found[name] = sum(values) / len(values)
    return found
