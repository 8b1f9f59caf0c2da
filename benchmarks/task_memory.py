# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Peak memory of label propagation and of retrieval, for some data and for eight times as many.

``python -m benchmarks.task_memory`` carries labels through a video whose frames come one by one,
and ranks a database whose features are mapped from a file, each in a process of its own. What
counts is memory of the process alone, see ``benchmarks.evaluation_memory``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import measurement
from benchmarks.evaluation_memory import PeakMemory
from ibot_mm.functional import retrieval
from ibot_mm.functional.label_propagation import LabelPropagation, enlarge_labels, labels_on_grid

GRID, CHANNELS = (15, 26), 384  # half of a frame of DAVIS on each side
QUERIES, RELEVANT = 16, 20
CHUNK, SIMILARITIES = 2048, 2**17  # instead of 65,536 and 2 ** 24, which all this would fit into
SIZES = dict(davis=12, retrieval=8192)  # frames, images


def propagate(number: int) -> float:
    """Carry labels through a video; return the peak in MiB."""
    watch = PeakMemory()
    watch.start()
    size = tuple(16 * side for side in GRID)
    mask = np.arange(size[0] * size[1], dtype=np.uint32).reshape(size) // 40_000
    labels = labels_on_grid(mask.astype(np.uint8), GRID)
    video = LabelPropagation(torch.randn(*GRID, CHANNELS), labels)
    for _ in range(number - 1):
        enlarge_labels(video.step(torch.randn(*GRID, CHANNELS)), size, size)
    return _peak(watch)


def rank(number: int) -> float:
    """Rank a database and score; return the peak in MiB."""
    retrieval.CHUNK = CHUNK
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'database.npy'
        memory = np.lib.format.open_memmap(path, 'w+', np.float32, (number, CHANNELS))
        random = np.random.default_rng(0)
        for start in range(0, number, CHUNK):
            part = memory[start : start + CHUNK]
            part[:] = random.standard_normal(part.shape, dtype=np.float32)
        memory.flush()
        database = torch.from_numpy(np.load(path, mmap_mode='c'))
        watch = PeakMemory()
        watch.start()
        rows = np.arange(RELEVANT)
        relevant = [retrieval.RelevantImages(rows, rows + RELEVANT, rows[:0])] * QUERIES
        rankings = retrieval.rank_database(
            database, torch.randn(QUERIES, CHANNELS), num_similarities=SIMILARITIES
        )
        retrieval.score_rankings(rankings, relevant)
        return _peak(watch)


def _peak(watch: PeakMemory) -> float:
    watch.stopped.set()
    watch.join()
    return watch.peak - watch.start_value


TASKS = dict(davis=propagate, retrieval=rank)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--factor', type=int, default=8, help='default: 8 times as many')
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    parser.add_argument('--measure', nargs=2, metavar=('TASK', 'NUMBER'), help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.measure:
        torch.set_num_threads(1)
        print(json.dumps(TASKS[args.measure[0]](int(args.measure[1]))))
        return None
    figures: dict[str, dict[int, float]] = {}
    for task, size in SIZES.items():
        for number in (size, args.factor * size):
            command = [sys.executable, '-m', __spec__.name, '--measure', task, str(number)]
            output = subprocess.check_output(command, text=True)
            peak = float(json.loads(output.splitlines()[-1]))
            figures.setdefault(task, {})[number] = peak
            unit = 'frames' if task == 'davis' else 'images'
            print(f'{task}, {number} {unit}: peak {peak:.0f} MiB')
    result = dict(unit='MiB', figures=figures, settings=vars(args), machine=measurement.machine())
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + '\n')
    return result


if __name__ == '__main__':
    main()
