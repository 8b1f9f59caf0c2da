# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Go on from an earlier checkpoint after an alarm, with another seed and a lower learning rate.

A file in the work dir lists what was rolled back, so that a training that is resumed later keeps
the seed and rate that it came to. Newer checkpoints are moved aside, not deleted.
"""

import gc
import json
import logging
import os
from functools import partial
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from .alarms import NOT_FINITE, RollBack, TrainingAlarm
from .checkpointing import list_checkpoints, read_checkpoint, run_on_main
from .hooks.alarm import AlarmHook

FILE = 'roll_backs.json'


def train_with_roll_backs(cfg: Config) -> None:
    """Train as ``Runner.from_cfg(cfg).train()``, and go on after alarms that ask to roll back.

    Args:
        cfg: Of the training.

    Raises:
        TrainingAlarm: Of an alarm that stops, or after as many as ``max_roll_backs``.
        FloatingPointError: As by the hooks, where ``not_finite`` is not rolled back.
    """
    _apply(cfg, read_roll_backs(cfg.work_dir) if cfg.get('resume') else [])
    while True:
        alarm = _train(cfg)
        if alarm is None:
            return
        gc.collect()  # the runner, before there are two
        cfg.load_from = run_on_main(partial(_roll_back, cfg, alarm))
        cfg.resume = cfg.load_from is not None
        if not cfg.resume:
            cfg.default_hooks.checkpoint.start_again = True
        _apply(cfg, read_roll_backs(cfg.work_dir)[-1:])


def read_roll_backs(work_dir: str | Path) -> list[dict[str, Any]]:
    """Read what was rolled back in a work dir: alarm, iterations, checkpoint, rate factor."""
    path = Path(work_dir) / FILE
    return json.loads(path.read_text()) if path.exists() else []


def _train(cfg: Config) -> RollBack | None:
    runner = Runner.from_cfg(cfg)
    hook = next((hook for hook in runner.hooks if isinstance(hook, AlarmHook)), None)
    try:
        runner.train()
        return None
    except RollBack as alarm:
        found: TrainingAlarm = alarm
    except FloatingPointError as error:
        if hook is None or hook.actions[NOT_FINITE] != 'roll_back':
            raise
        found = RollBack(NOT_FINITE, runner.iter + 1, runner.iter + 1, str(error))
    assert hook is not None
    number = len(read_roll_backs(cfg.work_dir))
    if number >= hook.max_roll_backs:
        text = f'{found} It was rolled back {number} times, max_roll_backs={hook.max_roll_backs}.'
        raise TrainingAlarm(found.name, found.step, found.since, text) from found
    # Without its traceback, which holds the runner.
    return RollBack(found.name, found.step, found.since, str(found))


def _roll_back(cfg: Config, alarm: RollBack) -> str | None:
    """Find the checkpoint to go on from, note it, and say so. One process calls it."""
    folder = Path(cfg.work_dir)
    start = next(
        (
            str(path)
            for path in list_checkpoints(folder)
            if read_checkpoint(path)['meta']['iter'] < alarm.since
        ),
        None,
    )
    hook = cfg.default_hooks.alarm
    factor = hook.get('rate_factor', 0.5)
    entry = dict(
        alarm=alarm.name,
        iteration=alarm.step,
        since=alarm.since,
        checkpoint=start and Path(start).name,
        rate_factor=factor,
    )
    path = folder / FILE
    unfinished = path.with_suffix('.tmp')
    unfinished.write_text(json.dumps([*read_roll_backs(folder), entry], indent=2))
    os.replace(unfinished, path)
    place = f'from {Path(start).name}' if start else 'from the start: nothing was saved before'
    print_log(
        f'{alarm} Rolled back: going on {place}, with the next seed and the learning rate times '
        f'{factor:g}; {path} has the list.',
        'current',
        logging.WARNING,
    )
    return start


def _apply(cfg: Config, entries: list[dict[str, Any]]) -> None:
    """Change seed and learning rate by what was rolled back."""
    for entry in entries:
        cfg.optim_wrapper.optimizer.lr *= entry['rate_factor']
        randomness = cfg.setdefault('randomness', {})
        randomness['seed'] = (randomness.get('seed') or 0) + 1
