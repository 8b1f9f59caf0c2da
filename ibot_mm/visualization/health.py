# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Curves of a training beside those of a healthy one."""

import json
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from .curves import Curve
from .style import COLORS, SMALL, TEXT, new_figure, tidy_axes

HEALTHY_RUN = Path(__file__).with_name('healthy_demo.json')  # of configs/pretrain/ibot_vit_demo.py
PANELS = {
    'losses': ('loss_cls', 'loss_patch'),
    'entropy of targets / ln K': ('cls_entropy', 'patch_entropy'),
    'agreement': ('agreement',),
    'k-NN top-1 (%)': ('knn',),
    'effective rank': ('cls_rank', 'patch_rank'),
    'norm of the gradient': ('grad_norm',),
    'dense score': ('dense_score',),
    'waiting for data (share)': ('waiting',),
}


def draw_health(curves: Mapping[str, Curve], title: str) -> Figure:
    """Draw what tells the state of a training, with the healthy demo run in gray behind it.

    Args:
        curves: By share of the training, with that of k-NN as 'knn'.
        title: Of the figure.

    Returns:
        A matplotlib figure of eight panels; those of which nothing was logged say so.
    """
    healthy: dict[str, Curve] = json.loads(HEALTHY_RUN.read_text())
    figure = new_figure(12, 5.4, title)
    for axis, (name, keys) in zip(figure.subplots(2, 4).flat, PANELS.items(), strict=True):
        for key, color in zip(keys, COLORS, strict=False):
            if key in healthy:
                axis.plot(*zip(*healthy[key], strict=True), color='0.75', linewidth=1)
            if curves.get(key):
                positions, values = zip(*curves[key], strict=True)
                marker = 'o' if len(values) <= 30 else None
                label = key.removeprefix('loss_').split('_')[0]
                axis.plot(positions, values, color=color, marker=marker, markersize=3, label=label)
        if not any(curves.get(key) for key in keys):
            axis.text(0.5, 0.5, 'not logged', transform=axis.transAxes, ha='center', color='0.4')
        axis.set_title(name, loc='left', fontsize=TEXT)
        tidy_axes(axis)
        axis.set_xlim(0, 1)
        if sum(bool(curves.get(key)) for key in keys) > 1:
            axis.legend(frameon=False, fontsize=SMALL)
    figure.supxlabel('share of the training; gray: the healthy demo run', fontsize=TEXT)
    return figure
