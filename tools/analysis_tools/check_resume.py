# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Check, on a config of yours, that a training that is stopped and resumed is the whole one.

A few short epochs are trained without a stop, and again with a stop by a signal at a random place
and a resume. Both final states must be the same, bit for bit: weights, moments, teacher, centers,
schedules, and the history of every logged value but times. The last line is `identical`, exit
status 0, or the first difference, exit status 1. For several processes start it by torchrun, with
--launcher pytorch.
"""

import argparse
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing import find_newest, force_safe_loading, read_checkpoint
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.stopping import TrainingStopped
from ibot_mm.engine.distributed import finish_processes, prepare_cpu_processes


class StopAt(Hook):
    """Sends this process the signal that a preempted one gets."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Stop after the iteration."""
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGUSR1)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a pre-training')
    parser.add_argument('--places', type=int, default=3, help='random places to stop at')
    parser.add_argument('--epochs', type=int, default=3, help='short epochs to train')
    parser.add_argument(
        '--batches', type=int, default=5, help='batches of an epoch, at most (an odd number)'
    )
    parser.add_argument('--seed', type=int, default=0, help='for the choice of places')
    parser.add_argument('--validate', action='store_true', help='with validations in between')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config'
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='job launcher'
    )
    return parser.parse_args()


def shorten(cfg: Config, args: argparse.Namespace) -> None:
    """Fewer batches in an epoch. Schedules keep their lengths in epochs."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    args.batches = min(args.batches, len(Runner.build_dataloader(cfg.train_dataloader)))
    cfg.train_dataloader.num_batch_per_epoch = args.batches
    cfg.default_hooks.checkpoint = dict(type='ibot_mm.CheckpointHook', interval=-1)
    if not args.validate:
        for name in ('val', 'test'):
            cfg[f'{name}_dataloader'] = cfg[f'{name}_cfg'] = cfg[f'{name}_evaluator'] = None
    else:
        cfg.train_cfg.val_interval = 1
    cfg.log_level = 'WARNING'
    cfg.visualizer = None


def train(cfg: Config, work_dir: Path, stop: int, resume: bool = False) -> Path:
    """Train up to an iteration, or on to it, and give the checkpoint saved there."""
    train.count = getattr(train, 'count', 0) + 1
    cfg = cfg.copy()
    cfg.update(work_dir=str(work_dir), resume=resume, experiment_name=f'check-{train.count}')
    runner = Runner.from_cfg(cfg)
    runner.register_hook(StopAt(stop))
    try:
        runner.train()
    except TrainingStopped:
        pass
    barrier()
    newest, _ = find_newest(work_dir)
    assert newest is not None
    return newest


def main() -> None:
    args = parse_args()
    force_safe_loading()
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    os.environ.setdefault('LOCAL_RANK', '0')
    prepare_cpu_processes(cfg)
    shorten(cfg, args)
    end = args.epochs * args.batches
    places = sorted(random.Random(args.seed).sample(range(1, end), min(args.places, end - 1)))
    folder = [tempfile.mkdtemp(prefix='check_resume_')]
    if 'WORLD_SIZE' in os.environ and args.launcher != 'none':
        broadcast_object_list(folder)
    top, difference = Path(folder[0]), None
    whole = train(cfg, top / 'whole', end)
    for place in places:
        train(cfg, top / f'stopped_{place}', place)
        resumed = train(cfg, top / f'stopped_{place}', end, resume=True)
        if is_main_process():
            difference = first_difference(read_checkpoint(whole), read_checkpoint(resumed))
            result = 'identical' if difference is None else difference
            print(f'stopped after {place} of {end} iterations: {result}', flush=True)
        if difference is not None:
            break
    if is_main_process():
        print(difference or 'identical', flush=True)
    finish_processes(int(difference is not None))


if __name__ == '__main__':
    main()
