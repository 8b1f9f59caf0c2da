# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Arms of an ablation: every seed, mean and standard deviation."""

from collections.abc import Collection, Mapping
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.figure import Figure

from .style import COLORS, TEXT, new_figure, save_figure, tidy_axes

HEIGHT = 0.42  # inches of an arm


def draw_ablation(
    metrics: Mapping[str, Mapping[str, Mapping[int, float]]], collapsed: Collection[str] = ()
) -> Figure:
    """Draw one panel a metric: seeds as dots, mean and standard deviation as a bar.

    Args:
        metrics: Title -> arm -> seed -> value in percent. The first arm is the one to compare
            with; its mean is a line.
        collapsed: Arms of which at least one seed has collapsed. Defaults to none.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If nothing was measured.
    """
    if not metrics:
        raise ValueError('nothing to draw: no metric was measured')
    arms = list(next(iter(metrics.values())))
    figure = new_figure(1.6 + 3.2 * len(metrics), 1.0 + HEIGHT * len(arms))
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axis, (title, of_arms) in zip(panels, metrics.items()):
        for row, arm in enumerate(arms):
            values = list(of_arms.get(arm, {}).values())
            if not values:
                continue
            color = COLORS[1] if arm in collapsed else COLORS[0]
            mean = fmean(values)
            spread = stdev(values) if len(values) > 1 else 0.0
            axis.errorbar(mean, row, xerr=spread, color=color, marker='o', capsize=3, zorder=3)
            axis.scatter(values, [row] * len(values), s=14, color=color, alpha=0.4, zorder=2)
            if row == 0:
                axis.axvline(mean, linestyle='--', color='0.6', zorder=1)
        axis.set_xlabel(f'{title} (%)', fontsize=TEXT)
        tidy_axes(axis, grid='x')
    titles = [f'{arm} (collapsed)' if arm in collapsed else arm for arm in arms]
    panels[0].set_yticks(range(len(arms)), titles)
    panels[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def save_ablation(
    path: str | Path,
    metrics: Mapping[str, Mapping[str, Mapping[int, float]]],
    collapsed: Collection[str] = (),
) -> Path:
    """Write the figure of :func:`draw_ablation` as a PNG and return its path."""
    return save_figure(draw_ablation(metrics, collapsed), path)
