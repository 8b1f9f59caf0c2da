# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluate a checkpoint by a config: k-NN of a pre-trained network, detection, segmentation."""

import argparse
import os
from pathlib import Path

from mmengine.config import DictAction
from mmengine.fileio import dump
from mmengine.runner import Runner

from ibot_mm.checkpoint import add_network_arguments, load_model, network_options
from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing import force_safe_loading
from ibot_mm.engine.distributed import finish_processes, prepare_cpu_processes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        'checkpoint', help="file, folder, address or package::model; 'none' for untrained weights"
    )
    add_network_arguments(parser)
    parser.add_argument('--work-dir', help='where to log (default: work_dirs/<config>)')
    parser.add_argument('--out', help='file for the metrics, .json, .yaml or .pkl')
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


def main() -> None:
    args = parse_args()
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    force_safe_loading()
    cfg = load_config(args.config)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{Path(args.config).stem}'
    cfg.load_from = None
    prepare_cpu_processes(cfg)
    runner = Runner.from_cfg(cfg)
    model = getattr(runner.model, 'module', runner.model)
    if args.checkpoint == 'none':
        # The Runner initializes weights to train only; start where a training starts.
        model.init_weights()
    else:
        load_model(model, args.checkpoint, **network_options(args)).log()
        runner.call_hook('after_load_checkpoint', checkpoint=dict(state_dict=model.state_dict()))
    metrics = runner.test()
    if args.out:
        dump(metrics, args.out)
    finish_processes()


if __name__ == '__main__':
    main()
