# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Train by a config: pre-training, detection or segmentation."""

import argparse
import os
from pathlib import Path

from mmengine.config import Config, DictAction

from ibot_mm.compatibility import load_config
from ibot_mm.engine.distributed import is_restarted
from ibot_mm.training import prepare_process, run_training


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help='where to log and save (default: work_dirs/<config>)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from this checkpoint; without a name, from the newest valid one in the work '
        'dir, or start where it has none',
    )
    parser.add_argument(
        '--start-again',
        action='store_true',
        help='start in a work dir that has checkpoints; they are moved to a folder in it',
    )
    parser.add_argument('--amp', action='store_true', help='mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the batch size that runs',
    )
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='change the config'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='job launcher',
    )
    parser.add_argument(
        '--local_rank', '--local-rank', type=int, default=0, help='set by launchers'
    )
    return parser.parse_args()


def build_config(args: argparse.Namespace) -> Config:
    """Read the config file and merge the command line in."""
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    if is_restarted():  # the first start may have been from a file, or again in a used folder
        args.resume, args.start_again = 'auto', False
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
    if args.start_again:
        hook = cfg.get('default_hooks', {}).get('checkpoint') or {}
        if hook.get('type') != 'ibot_mm.CheckpointHook':
            raise SystemExit(
                "--start-again needs default_hooks.checkpoint.type='ibot_mm.CheckpointHook'; "
                "mmengine's hook starts in any folder."
            )
        hook.start_again = True
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SystemExit(
                f'--auto-scale-lr: {args.config} has no auto_scale_lr.base_batch_size; add '
                'auto_scale_lr=dict(base_batch_size=<images a step its lr was chosen for>).'
            )
        cfg.auto_scale_lr.enable = True
    if args.amp:
        kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
        if not isinstance(kind, str):  # in a config of pure Python
            kind = f'{kind.__module__.split(".")[0]}.{kind.__name__}'
        if 'Amp' not in kind:
            mixed = kind.replace('OptimWrapper', 'AmpOptimWrapper')
            if mixed in ('AmpOptimWrapper', 'mmengine.AmpOptimWrapper'):
                mixed = 'ibot_mm.AmpOptimWrapper'  # which, unlike mmengine's, knows the CPU
            cfg.optim_wrapper.type = mixed
            cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    return cfg


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    prepare_process()
    run_training(build_config(args), args.cfg_options)


if __name__ == '__main__':
    main()
