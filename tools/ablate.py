# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Train every arm of an ablation with every seed, measure all, and write a report.

What is finished is not done again, what was interrupted goes on, what fails is named at the end.
The report has all arms and seeds that are finished, also by earlier calls.
"""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction
from rich.console import Console

from ibot_mm.ablation import (
    check_ablation,
    check_unique,
    plan_tasks,
    read_ablation,
    run_tasks,
    write_array_jobs,
    write_plan,
    write_report,
)
from ibot_mm.ablation.report import REPORT
from ibot_mm.engine.checkpointing.stopping import STOPPED


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='such as configs/ablation/tokenizer.py')
    parser.add_argument(
        '--seeds',
        type=int,
        nargs='+',
        default=[3],
        metavar='N',
        help='one number: so many, from 0; several: these. Default: 3',
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the ablation')
    parser.add_argument('--arms', nargs='+', metavar='NAME', help='default: all')
    parser.add_argument(
        '--jobs', type=int, default=1, metavar='N', help='trainings at once, default: 1'
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'slurm'],
        default='none',
        help='slurm: write array jobs and how to submit them, run nothing',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='change the base config, for all arms',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        ablation = read_ablation(args.config, args.cfg_options, args.arms)
        seeds = list(range(args.seeds[0])) if len(args.seeds) == 1 else args.seeds
        check_unique('seed', seeds)
        if not seeds or min(seeds) < 0 or args.jobs < 1:
            raise ValueError('--seeds and --jobs must be at least 1, and a seed at least 0')
        check_ablation(ablation, args.out)
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise SystemExit(f'ablate: {error}') from error
    write_plan(ablation, args.out)
    tasks = plan_tasks(ablation, seeds, args.out, Path(__file__).parent)
    if args.launcher == 'slurm':
        print('\n'.join(write_array_jobs(tasks, args.out, args.jobs)) or 'Everything is done.')
        print('When all have ended, the same command without --launcher writes the report.')
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))  # trainings save themselves
    print(f'{len(tasks)} tasks to do')
    failed = run_tasks(tasks, args.jobs)
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(['python', os.path.relpath(__file__), *words])
    whole = read_ablation(args.config, args.cfg_options)
    table = write_report(whole, args.out, failed, command)
    if table is not None:
        Console().print(table)
        print(f'Report: {Path(args.out, REPORT)}')
    if failed:
        raise SystemExit('\n'.join(['failed:', *(f'  {n}: {text}' for n, text in failed.items())]))


if __name__ == '__main__':
    main()
