# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Peak memory of a training step, here and in the published code.

Each side runs in a process of its own. On a CPU its peak is that of the resident memory above
what the process held after its imports; on a GPU that of the memory which torch allocated.
"""

import argparse
import multiprocessing
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from benchmarks import measurement, workload
from benchmarks.published_training import PublishedTraining, import_published
from benchmarks.training import OurTraining


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    workload.add_arguments(parser)
    parser.add_argument(
        '--pack-crops', action='store_true', help='measure ours also with all crops in one pass'
    )
    parser.set_defaults(rounds=2)
    return parser.parse_args(arguments)


def resident(key: str) -> float:
    """Memory of this process in GiB: 'VmRSS' now, 'VmHWM' at its peak (Linux)."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def peak(side: str, args: argparse.Namespace) -> float:
    """GiB that some steps of one side need, measured in the calling process."""
    warnings.filterwarnings('ignore')
    if args.threads:
        torch.set_num_threads(args.threads)
    work = workload.Workload(args, number=1)
    if side == measurement.PUBLISHED:
        import_published(args.reference, 'main_ibot')
    before = resident('VmRSS')
    training = (
        PublishedTraining(args.reference, work)
        if side == measurement.PUBLISHED
        else OurTraining(work, pack_crops=side == measurement.ONE_PASS)
    )
    training.run()
    if workload.device() == 'cuda':
        return torch.cuda.max_memory_allocated() / 2**30
    return resident('VmHWM') - before


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and report."""
    args = parse_args(arguments)
    sides = [measurement.OURS]
    if args.pack_crops:
        sides.append(measurement.ONE_PASS)
    if args.reference:
        sides.append(measurement.PUBLISHED)
    measured: dict[str, list[float]] = {side: [] for side in sides}
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, spawn, max_tasks_per_child=1) as pool:
        for _ in range(args.rounds):
            for side in sides:
                measured[side].append(pool.submit(peak, side, args).result())
    settings = vars(args) | dict(device=workload.device())
    if args.reference:
        settings['share'] = min(measured[measurement.OURS]) / min(measured[measurement.PUBLISHED])
    title = 'Peak memory of a training step'
    only_ours = args.pack_crops and not args.reference
    baseline = measurement.OURS if only_ours else measurement.PUBLISHED
    return measurement.report(
        title, 'GiB', measured, settings, args.json, gain='times as little', baseline=baseline
    )


if __name__ == '__main__':
    main()
