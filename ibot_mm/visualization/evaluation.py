# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Accuracy over the settings of an evaluation."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .curves import COLORS

# Protocol -> the setting on the horizontal axis, and its title.
AXES = dict(
    knn=('k', 'k-NN: neighbors'),
    linear=('lr', 'linear probing: learning rate'),
    logistic=('weight_decay', 'logistic regression: weight decay'),
)
Measurements = Mapping[str, Sequence[Mapping[str, Any]]]  # protocol -> setting and metrics


def draw_evaluation(
    networks: Mapping[str, Measurements], published: Mapping[str, float | None] | None = None
) -> Figure:
    """Draw top-1 accuracy over neighbors, learning rates and weight decays, one panel each.

    Args:
        networks: Title -> protocol -> measurements, dicts of ``setting`` and ``metrics``.
        published: Protocol -> published number, a dashed line. Defaults to None.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If none of the protocols has settings to draw.
    """
    shown = [name for name in AXES if any(name in found for found in networks.values())]
    if not shown:
        raise ValueError(f'nothing to draw: none of {", ".join(AXES)} was measured')
    figure = Figure(figsize=(5.2 * len(shown), 3.6), layout='constrained')
    FigureCanvasAgg(figure)
    for axis, protocol in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown):
        key, title = AXES[protocol]
        for color, (name, found) in zip(cycle(COLORS), networks.items()):
            points = [(m['setting'][key], m['metrics']['top1']) for m in found.get(protocol, ())]
            if points:
                axis.plot(*zip(*points), color=color, marker='o', markersize=3.5, label=name)
        if published and published.get(protocol) is not None:
            axis.axhline(published[protocol], linestyle='--', color='0.5', label='published')
        axis.set(xlabel=title, ylabel='top-1 (%)', xscale='log')
        axis.spines[['top', 'right']].set_visible(False)
        axis.grid(axis='y', color='0.9')
        axis.legend(frameon=False, fontsize=9)
    return figure


def save_evaluation(
    path: str | Path,
    networks: Mapping[str, Measurements],
    published: Mapping[str, float | None] | None = None,
) -> Path:
    """Write the figure of :func:`draw_evaluation` as a PNG and return its path."""
    figure = draw_evaluation(networks, published)
    figure.savefig(path, format='png', dpi=150)
    return Path(path)
