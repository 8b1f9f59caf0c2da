# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images a second of several processes that share the training (weak scaling).

``python -m benchmarks.scaling`` trains with the same batch in each process, on one thread or GPU
each, and compares with one process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import measurement, workload
from benchmarks.training import OurTraining
from ibot_mm.engine.distributed import finish_processes

ROOT = Path(__file__).parents[1]


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    workload.add_arguments(parser)
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2], help='default: 1 and 2')
    parser.add_argument('--worker', metavar='FILE', help=argparse.SUPPRESS)
    parser.set_defaults(rounds=3, threads=1)
    return parser.parse_args(arguments)


def work(args: argparse.Namespace) -> None:
    """Train as one of the processes, after a turn to warm up; the first writes the seconds."""
    warnings.filterwarnings('ignore')
    torch.set_num_threads(args.threads)
    training = OurTraining(workload.Workload(args), launcher='pytorch')
    training.run()
    seconds = training.run()
    if os.environ['RANK'] == '0':
        Path(args.worker).write_text(json.dumps(seconds))
    finish_processes()


def images_per_second(processes: int, args: argparse.Namespace, arguments: Sequence[str]) -> float:
    """Of all processes together, in processes of their own."""
    with tempfile.NamedTemporaryFile(suffix='.json') as file:
        launch = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
        own = ['-m', 'benchmarks.scaling', *arguments, '--worker', file.name]
        environment = dict(os.environ, OMP_NUM_THREADS=str(args.threads))
        subprocess.run(
            [sys.executable, *launch, *own],
            cwd=ROOT, env=environment, check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = statistics.median(json.loads(Path(file.name).read_text()))
    return processes * args.batch_size / seconds


def main(arguments: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Measure and report, or be one of the processes."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    args = parse_args(arguments)
    if args.worker:
        return work(args)
    measured: dict[str, list[float]] = {f'{number} processes': [] for number in args.processes}
    for _ in range(args.rounds):
        for number in args.processes:
            rate = images_per_second(number, args, arguments)
            measured[f'{number} processes'].append(rate)
    first = measured[f'{args.processes[0]} processes']
    settings: dict[str, Any] = vars(args) | dict(device=workload.device(), efficiency={})
    for number, rates in zip(args.processes, measured.values()):
        perfect = [rate * number / args.processes[0] for rate in first]
        share = statistics.median(rate / best for rate, best in zip(rates, perfect))
        settings['efficiency'][number] = share
    result = measurement.report('Weak scaling', 'images/s', measured, settings, args.json)
    for number, share in settings['efficiency'].items():
        print(f'{number} processes: {share:.0%} of perfect scaling')
    return result


if __name__ == '__main__':
    main()
