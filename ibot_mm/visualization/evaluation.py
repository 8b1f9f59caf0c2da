# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Accuracy over the settings of an evaluation, and the numbers of tasks."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .style import COLORS, SMALL, TEXT, new_figure, save_figure, tidy_axes

# Protocol -> the setting on the horizontal axis, and its title.
AXES = dict(
    knn=('k', 'k-NN: neighbors'),
    linear=('lr', 'linear probing: learning rate'),
    logistic=('weight_decay', 'logistic regression: weight decay'),
)
Measurements = Mapping[str, Sequence[Mapping[str, Any]]]  # protocol -> setting and metrics
Rows = Sequence[Mapping[str, Any]]  # of a table
BAR = 0.2  # inches of a row of a task's panel


def draw_evaluation(
    networks: Mapping[str, Measurements],
    published: Mapping[str, float | None] | None = None,
    summary: Mapping[str, Rows] | None = None,
) -> Figure:
    """Draw top-1 accuracy over neighbors, learning rates and weight decays, and tasks' numbers.

    Each has a panel.

    Args:
        networks: Title -> protocol -> measurements, dicts of ``setting`` and ``metrics``.
        published: Protocol -> published number, a dashed line. Defaults to None.
        summary: Title -> rows of the table; those with a 'task' are drawn as bars, published
            numbers as strokes. Defaults to None.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If none of the protocols has settings to draw, and there are no tasks.
    """
    shown = [name for name in AXES if any(name in found for found in networks.values())]
    rows = [row for of_network in (summary or {}).values() for row in of_network if 'task' in row]
    tasks = list(dict.fromkeys(row['task'] for row in rows))
    if not shown and not tasks:
        raise ValueError(f'nothing to draw: none of {", ".join(AXES)} was measured')
    number = len(shown) + len(tasks)
    longest = max((len({_key(r) for r in rows if r['task'] == task}) for task in tasks), default=0)
    height = max(3.6, 1.0 + BAR * longest)
    figure = new_figure(5.2 * number, height)
    axes = figure.subplots(1, number, squeeze=False)[0]
    for axis, task in zip(axes[len(shown) :], tasks):
        _draw_bars(axis, task, summary or {})
    for axis, protocol in zip(axes, shown):
        key, title = AXES[protocol]
        for color, (name, found) in zip(cycle(COLORS), networks.items()):
            points = [(m['setting'][key], m['metrics']['top1']) for m in found.get(protocol, ())]
            if points:
                axis.plot(*zip(*points), color=color, marker='o', markersize=3.5, label=name)
        if published and published.get(protocol) is not None:
            axis.axhline(published[protocol], linestyle='--', color='0.5', label='published')
        axis.set(xlabel=title, ylabel='top-1 (%)', xscale='log')
        tidy_axes(axis)
        axis.legend(frameon=False, fontsize=TEXT)
    return figure


def _key(row: Mapping[str, Any]) -> tuple[str, str]:
    return row['protocol'], row['metric']


def _draw_bars(axis: Any, task: str, summary: Mapping[str, Rows]) -> None:
    """Draw the first metrics of a task, one group of bars a row, one bar a network."""
    rows = {
        title: {_key(row): row for row in found if row.get('task') == task}
        for title, found in summary.items()
    }
    rows = {title: found for title, found in rows.items() if found}
    keys = list(next(iter(rows.values())))
    height = 0.8 / len(rows)
    for place, (color, (title, found)) in enumerate(zip(cycle(COLORS), rows.items())):
        where = [number + (place - (len(rows) - 1) / 2) * height for number in range(len(keys))]
        values = [found[key]['value'] if key in found else 0.0 for key in keys]
        axis.barh(where, values, height, color=color, label=title)
    first = next(iter(rows.values()))
    for number, key in enumerate(keys):
        if (known := first[key]['published']) is not None:
            axis.plot([known] * 2, [number - 0.45, number + 0.45], color='0.2', linestyle='--')
    labels = [f'{title.removeprefix(task).strip()} {metric}'.strip() for title, metric in keys]
    tidy_axes(axis, grid='x')
    axis.set_yticks(range(len(keys)), labels, fontsize=SMALL)
    axis.invert_yaxis()
    axis.set(xlabel=f'{task} (%)')
    axis.legend(frameon=False, fontsize=TEXT, loc='lower right', bbox_to_anchor=(1, 1), ncols=2)


def save_evaluation(
    path: str | Path,
    networks: Mapping[str, Measurements],
    published: Mapping[str, float | None] | None = None,
    summary: Mapping[str, Rows] | None = None,
) -> Path:
    """Write the figure of :func:`draw_evaluation` as a PNG and return its path."""
    return save_figure(draw_evaluation(networks, published, summary), path)
