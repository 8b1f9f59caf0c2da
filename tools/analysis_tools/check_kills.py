# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Check that a training survives kill -9 at random moments, half of them while it saves.

Each time at most one interval of checkpoints may be lost, with only one checkpoint kept. At the end
the training is run to its end and compared with one that nobody killed. The last line is
`survived N of N`, exit status 0, or what was lost, exit status 1.
"""

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing import find_newest, force_safe_loading, read_checkpoint
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.registry import HOOKS, MODELS

PROCESSES = multiprocessing.get_context('fork')  # a new start without importing anew


class Progress(Hook):
    """Tells the parent how far this process is, and when it saves."""

    priority = 'LOWEST'

    def __init__(self, iteration: Any, is_saving: Any) -> None:
        self.iteration, self.is_saving = iteration, is_saving

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Note that an iteration is complete, with its checkpoint."""
        self.iteration.value = runner.iter + 1
        self.is_saving.value = 0

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note that a file is about to be written."""
        self.is_saving.value = 1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a pre-training')
    parser.add_argument('--kills', type=int, default=20, help='how often to kill')
    parser.add_argument('--interval', type=int, default=3, help='iterations between checkpoints')
    parser.add_argument('--batches', type=int, default=5, help='batches of an epoch')
    parser.add_argument('--seed', type=int, default=0, help='for the choice of moments')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config'
    )
    return parser.parse_args()


def prepare(cfg: Config, args: argparse.Namespace) -> None:
    """Short epochs, one checkpoint, as many epochs as the kills need, no validation."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    MODELS.import_from_location(), HOOKS.import_from_location()  # once, not in each process
    args.batches = min(args.batches, len(Runner.build_dataloader(cfg.train_dataloader)))
    cfg.train_dataloader.num_batch_per_epoch = args.batches
    cfg.train_cfg.max_epochs = max(
        cfg.train_cfg.max_epochs, 2 * args.kills * args.interval // args.batches + 1
    )
    cfg.default_hooks.checkpoint = dict(
        type='ibot_mm.CheckpointHook', by_epoch=False, interval=args.interval, max_keep_ckpts=1
    )
    for name in ('val', 'test'):
        cfg[f'{name}_dataloader'] = cfg[f'{name}_cfg'] = cfg[f'{name}_evaluator'] = None
    cfg.update(launcher='none', resume=True, log_level='ERROR', visualizer=None)


def train(cfg: Config, work_dir: str, iteration: Any, is_saving: Any) -> None:
    """Train in this process."""
    cfg = cfg.copy()
    cfg.update(work_dir=work_dir, experiment_name=f'{os.getpid()}')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Progress(iteration, is_saving))
    runner.train()


def saved_iteration(work_dir: Path) -> int:
    """Return that of the newest valid checkpoint; 0 if there is none."""
    newest, _ = find_newest(work_dir)
    return int(read_checkpoint(newest)['meta']['iter']) if newest else 0


def kill_once(cfg: Config, work_dir: Path, args: argparse.Namespace, rng: random.Random) -> str:
    """Start, kill at a random moment; what was lost, or an empty text."""
    start = saved_iteration(work_dir)
    iteration, is_saving = PROCESSES.Value('i', start), PROCESSES.Value('i', 0)
    child = PROCESSES.Process(target=train, args=(cfg, str(work_dir), iteration, is_saving))
    child.start()
    in_mid_save = rng.random() < 0.5
    goal = start + rng.randint(1, 2 * args.interval)
    while child.is_alive() and iteration.value < goal:
        time.sleep(0.001)
    while child.is_alive() and in_mid_save and not is_saving.value:
        time.sleep(0.0001)
    time.sleep(rng.random() * (0.02 if in_mid_save else 0.1))
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    reached, saved = iteration.value, saved_iteration(work_dir)
    half_written = len(list(work_dir.glob('*.unfinished')))
    print(
        f'killed at iteration {reached}{" while saving" if in_mid_save else ""}, '
        f'{half_written} files half-written, goes on from {saved}',
        flush=True,
    )
    if reached < goal:
        return f'the training ended by itself at iteration {reached}'
    # Before its first checkpoint a training has nothing but its start.
    return f'{reached - saved} iterations were lost' if reached - saved > args.interval else ''


def main() -> None:
    args = parse_args()
    force_safe_loading()
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    prepare(cfg, args)
    top, rng = Path(tempfile.mkdtemp(prefix='check_kills_')), random.Random(args.seed)
    for number in range(args.kills):
        if fault := kill_once(cfg, top / 'killed', args, rng):
            raise SystemExit(f'lost after {number} kills: {fault}')
    for name in ('killed', 'whole'):
        values = PROCESSES.Value('i', 0), PROCESSES.Value('i', 0)
        child = PROCESSES.Process(target=train, args=(cfg, str(top / name), *values))
        child.start()
        child.join()
    ends = [read_checkpoint(find_newest(top / name)[0]) for name in ('whole', 'killed')]
    if difference := first_difference(*ends):
        raise SystemExit(f'the ends differ: {difference}')
    print(f'survived {args.kills} of {args.kills}')


if __name__ == '__main__':
    main()
