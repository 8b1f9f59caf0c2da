# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Curves of losses and k-NN accuracy from mmengine's ``scalars.json``."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import cycle
from math import ceil
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.logging import print_log

from .style import COLORS, TEXT, TITLE, new_figure, save_figure, tidy_axes

Curve = list[tuple[float, float]]  # positions in the run and values


def find_scalars(path: str | Path) -> list[Path]:
    """Find the ``scalars.json`` files of a run, oldest first.

    Args:
        path: Such a file, or a work directory with one ``<time>/vis_data/scalars.json`` for each
            start of the run.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(
            f'no */vis_data/scalars.json in {path}: give the work directory of a training run, or '
            'the file itself'
        )
    return files


def read_curves(files: Sequence[Path]) -> tuple[dict[str, Curve], str]:
    """Read all logged quantities of a run.

    Epoch-based runs write the epoch of a validation and the iteration of a training record; the
    latter are converted to epochs, so that both share one axis. A resumed run repeats some steps:
    the later file counts. Lines that are not JSON, as a killed run leaves, are left out with a
    warning.

    Args:
        files: From :func:`find_scalars`.

    Returns:
        Curves by name, and the unit of their positions: 'epoch' or 'iteration'.
    """
    training: dict[int, dict] = {}  # by iteration
    validation: dict[tuple[int, int], dict] = {}  # by step and last training iteration seen
    for file in files:
        last = 0
        for record in _records(file):
            if 'iter' in record:  # a validation has none
                last = record['iter']
                training[last] = record
            else:
                validation[record['step'], last] = record

    # The length of an epoch in iterations is not logged: the smallest that fits all records.
    epoch = max(
        (
            ceil(record['iter'] / record['epoch'])
            for record in training.values()
            if 'epoch' in record
        ),
        default=0,
    )
    points: dict[str, dict[float, float]] = defaultdict(dict)
    for iteration, record in training.items():
        for name, value in record.items():
            points[name][iteration / (epoch or 1)] = value
    of_training = set(points)  # time and data_time are logged by both: here they are training's
    for (step, last), record in validation.items():
        # Without epochs the step may still count them (LoggerHook's log_metric_by_epoch).
        position = step if epoch else max(step, last)
        for name, value in record.items():
            if name not in of_training:
                points[name][position] = value
    curves = {name: sorted(values.items()) for name, values in points.items()}
    return curves, 'epoch' if epoch else 'iteration'


def _records(file: Path) -> Iterator[dict]:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            print_log(f'{file}: line {number} is not JSON, left out', 'current', logging.WARNING)


def draw_curves(curves: dict[str, Curve], unit: str, keys: Sequence[str] = ()) -> Figure:
    """Draw the losses, the top-1 accuracies and any other quantities, one panel each.

    Args:
        curves: From :func:`read_curves`.
        unit: Name of the horizontal axis.
        keys: Names of further quantities, each with a panel of its own. Defaults to none.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If nothing is there to draw or a key is unknown.
    """
    unknown = [key for key in keys if key not in curves]
    if unknown:
        raise ValueError(f'no {unknown} among the logged quantities {sorted(curves)}')
    panels = {
        'loss': [name for name in curves if name.startswith('loss')],
        'k-NN top-1 (%)': [name for name in curves if '/top1' in name],
        **{key: [key] for key in keys},
    }
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        raise ValueError(f'no losses or top-1 accuracies among {sorted(curves)}')
    figure = new_figure(5.2 * len(panels), 3.6)
    for axis, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        _draw_panel(axis, title, {name: curves[name] for name in names})
        axis.set_xlabel(unit)
        axis.set_xlim(left=0)
    return figure


def _draw_panel(axis: Axes, title: str, curves: dict[str, Curve]) -> None:
    for color, (name, curve) in zip(cycle(COLORS), curves.items(), strict=False):
        positions, values = zip(*curve, strict=True)
        marker = 'o' if len(curve) <= 30 else None
        label = name.rsplit('/')[-1].replace('top1_k', 'k = ')
        axis.plot(positions, values, color=color, marker=marker, markersize=3.5, label=label)
    axis.set_title(title, loc='left', fontsize=TITLE)
    tidy_axes(axis)
    if len(curves) > 1:
        axis.legend(frameon=False, fontsize=TEXT)


def save_curves(path: str | Path, run: str | Path, keys: Sequence[str] = ()) -> Path:
    """Write the curves of a run as a PNG and return its path; folders are made.

    Args:
        path: The PNG to write.
        run: Work directory or ``scalars.json``, see :func:`find_scalars`.
        keys: Further quantities, see :func:`draw_curves`. Defaults to none.
    """
    return save_figure(draw_curves(*read_curves(find_scalars(run)), keys), path)
