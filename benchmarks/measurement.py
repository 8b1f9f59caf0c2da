# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Fair measurements of several sides on a machine that others use too, and their report."""

import argparse
import datetime
import json
import os
import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

OURS, ONE_PASS, PUBLISHED = 'ours', 'one_pass', 'published'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that all benchmarks have."""
    parser.add_argument(
        '--reference',
        metavar='PATH',
        help='clone of https://github.com/bytedance/ibot, to measure beside ours',
    )
    parser.add_argument('--rounds', type=int, default=10, help='turns of each side; default: 10')
    parser.add_argument('--threads', type=int, help='CPU threads; default: as torch chooses')
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')


def machine() -> dict[str, Any]:
    """Where and with what something was measured."""
    information = Path('/proc/cpuinfo')
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    described = dict(
        date=datetime.date.today().isoformat(),
        cpu=names[0] if names else platform.processor(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
    )
    if torch.cuda.is_available():
        described['gpu'] = torch.cuda.get_device_name()
    return described


def alternate(
    sides: dict[str, Callable[[], Sequence[float]]], rounds: int
) -> dict[str, list[float]]:
    """Measure in turns, A B A B ..., so that a busy neighbor slows all sides alike.

    Args:
        sides: Each works and returns its measurements, of which the median counts.
        rounds: Turns of each side, after one to warm up.

    Returns:
        One number a round, by side.
    """
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            value = statistics.median(side())
            if turn > 0:
                measured[name].append(value)
    return measured


def report(
    title: str,
    unit: str,
    measured: dict[str, list[float]],
    settings: dict[str, Any],
    path: str | Path | None = None,
    gain: str = 'times as fast',
    baseline: str = PUBLISHED,
) -> dict[str, Any]:
    """Print a table: medians, spread, and the baseline's number over each.

    Args:
        title: Of the table.
        unit: Of the numbers; less is better.
        measured: As of :func:`alternate`.
        settings: What was measured.
        path: JSON file for the same figures, with machine and settings. Defaults to None.
        gain: What to call that ratio. Defaults to 'times as fast'.
        baseline: Side whose number over each is reported, if it was measured. Defaults to the
            published side.

    Returns:
        What the file holds.
    """
    table = Table('', f'median ({unit})', 'lowest to highest', title=title)
    if baseline in measured:
        table.add_column(f'{gain} (lowest to highest)')
    figures: dict[str, dict[str, Any]] = {}
    for name, values in measured.items():
        row = dict(median=statistics.median(values), lowest=min(values), highest=max(values))
        cells = [f'{row["median"]:.4g}', f'{row["lowest"]:.4g} to {row["highest"]:.4g}']
        if baseline in measured:  # of turns that follow each other, so that noise cancels
            ratios = [theirs / ours for ours, theirs in zip(values, measured[baseline])]
            row['ratio'] = statistics.median(ratios)
            row['ratio_lowest'], row['ratio_highest'] = min(ratios), max(ratios)
            cells.append(f'{row["ratio"]:.2f} ({min(ratios):.2f} to {max(ratios):.2f})')
        table.add_row(name, *cells)
        figures[name] = row
    result = dict(title=title, unit=unit, figures=figures, settings=settings, machine=machine())
    console = Console()
    console.print(table)
    console.print(result['machine'])
    if path:
        Path(path).write_text(json.dumps(result, indent=2) + '\n')
    return result
