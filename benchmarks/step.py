# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training step, here and in the published code.

``python -m benchmarks.step --reference PATH`` measures what a loop does with a batch: forward,
backward, clipping, freezing, optimizer, update of the teacher, log. On a GPU also peak memory.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.profiler import profile

from benchmarks import measurement, workload
from benchmarks.cost import Step
from benchmarks.published_training import PublishedTraining
from benchmarks.training import OurTraining


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    workload.add_arguments(parser)
    parser.add_argument(
        '--images', metavar='FOLDER', help='train ours on these through its loader, not on noise'
    )
    parser.add_argument(
        '--pack-crops', action='store_true', help='measure ours also with all crops in one pass'
    )
    parser.add_argument(
        '--profile', action='store_true', help='also list the ten most expensive operations (ours)'
    )
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='count the time of the processor only: fair beside other busy processes',
    )
    args = parser.parse_args(arguments)
    if args.processor_time and (args.threads != 1 or args.images or workload.device() != 'cpu'):
        parser.error('--processor-time is for --threads 1 on a CPU, without --images.')
    return args


def ceiling(
    dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter, rounds: int = 10
) -> float:
    """Operations a second, by ``clock``, of a large matrix product, the best of some rounds."""
    size = 8192 if workload.device() == 'cuda' else 2048
    a = torch.randn(size, size, device=workload.device()).to(dtype)
    best = float('inf')
    for _ in range(rounds):
        synchronize()
        start = clock()
        a @ a
        synchronize()
        best = min(best, clock() - start)
    return 2 * size**3 / best


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if workload.device() == 'cuda':
        torch.cuda.synchronize()


def operations(model: dict, args: argparse.Namespace) -> float:
    """Operations of our step, by the cost model."""
    if args.compile:  # compiled backbones compute what drop path drops
        model = dict(model, compile_backbone=False)
        model['backbone'] = dict(model['backbone'], drop_path_rate=0.0)
    stride = workload.NETWORKS[args.arch].patch_size
    step = Step(model, args.global_crop_size, args.local_crop_size, args.local_crops, stride=stride)
    return step.ours() * args.batch_size


def with_peak_memory(run: Callable[[], list[float]], peaks: list[float]) -> list[float]:
    """Run, and on a GPU note the peak of allocated memory in GiB."""
    if workload.device() != 'cuda':
        return run()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    seconds = run()
    peaks.append((torch.cuda.max_memory_allocated() - before) / 2**30)
    return seconds


def profile_step(ours: OurTraining) -> list[tuple[str, float, int]]:
    """Print and return the ten most expensive operations: name, share of the time, calls.

    On a CPU also the share of the time that is spent outside of torch's operators: Python, hooks,
    the log, and what runs the backward pass.
    """
    with warnings.catch_warnings(), profile() as recorded:
        warnings.simplefilter('ignore')
        start = time.perf_counter()
        ours.run()
        seconds = time.perf_counter() - start
    key = 'self_device_time_total' if workload.device() == 'cuda' else 'self_cpu_time_total'
    events = sorted(recorded.key_averages(), key=lambda event: getattr(event, key), reverse=True)
    total = sum(getattr(event, key) for event in events)
    rows = [(event.key, getattr(event, key) / total, event.count) for event in events[:10]]
    for name, share, count in rows:
        print(f'{share:6.1%}  {count:6d} calls  {name}')
    if workload.device() == 'cpu':
        operators = sum(e.self_cpu_time_total for e in events if e.key.startswith('aten::'))
        print(f'outside of operators: {1 - operators / 1e6 / seconds:.1%} of the time')
    wait, work = sum(ours.timer.waits), sum(ours.timer.seconds)
    print(f'waiting for data: {wait / (wait + work):.1%} of the time')
    return rows


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    if args.threads:
        torch.set_num_threads(args.threads)
    work = workload.Workload(args)
    ours = OurTraining(work, args.images)
    runs = {measurement.OURS: ours.run}
    if args.pack_crops:
        runs[measurement.ONE_PASS] = OurTraining(work, args.images, pack_crops=True).run
    if args.reference:
        runs[measurement.PUBLISHED] = PublishedTraining(args.reference, work).run
    peaks: dict[str, list[float]] = {name: [] for name in runs}
    sides = {name: partial(with_peak_memory, run, peaks[name]) for name, run in runs.items()}
    measured = measurement.alternate(sides, args.rounds)

    settings = vars(args) | dict(device=workload.device())
    gflop = operations(ours.runner.cfg.model, args) / 1e9
    top = ceiling(getattr(torch, args.dtype), ours.timer.clock)
    settings |= dict(gflop=gflop, ceiling_gflop_per_s=top / 1e9)
    settings['waiting'] = sum(ours.timer.waits) / sum(ours.timer.waits + ours.timer.seconds)
    for name, values in measured.items():
        settings[f'images_per_s_{name}'] = args.batch_size / statistics.median(values)
    settings |= {f'peak_gib_{name}': max(values) for name, values in peaks.items() if values}
    rate = gflop * 1e9 / statistics.median(measured[measurement.OURS])
    settings['utilization'] = rate / top
    if args.profile:
        settings['profile'] = profile_step(ours)
    only_ours = args.pack_crops and not args.reference
    baseline = measurement.OURS if only_ours else measurement.PUBLISHED
    title = 'Training step'
    result = measurement.report(title, 's', measured, settings, args.json, baseline=baseline)
    for name in [key for key in settings if key.startswith(('images_per_s', 'peak_gib'))]:
        print(f'{name}: {settings[name]:.2f}')
    print(f'{rate / 1e9:.0f} GFLOP/s, {settings["utilization"]:.0%} of a large matrix product')
    return result


if __name__ == '__main__':
    main()
