# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Accuracy over the settings of an evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use('Agg')

import matplotlib.pyplot as plt

# Protocol -> the setting on the horizontal axis, its title, whether it is logarithmic.
AXES = dict(
    knn=('k', 'k-NN: neighbors', True),
    linear=('lr', 'linear probing: learning rate (of 256 images)', True),
    logistic=('weight_decay', 'logistic regression: weight decay', True),
)


def save_evaluation(
    out: str | Path,
    networks: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]],
    published: Mapping[str, float] | None = None,
) -> Path:
    """Draw top-1 accuracy over neighbors, learning rates and weight decays.

    Args:
        out: Picture to write.
        networks: Title -> protocol -> measurements, dicts of ``setting`` and ``metrics``.
        published: Protocol -> published number, a dashed line. Defaults to None.

    Raises:
        ValueError: If none of the protocols has settings to draw.
    """
    shown = [name for name in AXES if any(name in found for found in networks.values())]
    if not shown:
        raise ValueError(f'nothing to draw: of {", ".join(AXES)} none was measured')
    figure, axes = plt.subplots(1, len(shown), figsize=(5 * len(shown), 4), squeeze=False)
    for axis, protocol in zip(axes[0], shown):
        key, title, logarithmic = AXES[protocol]
        for name, found in networks.items():
            points = [(m['setting'][key], m['metrics']['top1']) for m in found.get(protocol, ())]
            axis.plot(*zip(*points), marker='.', label=name) if points else None
        if published and published.get(protocol) is not None:
            axis.axhline(published[protocol], linestyle='--', color='gray', label='published')
        axis.set(xlabel=title, ylabel='top-1 (%)', xscale='log' if logarithmic else 'linear')
        axis.grid(alpha=0.3)
        axis.legend()
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    plt.close(figure)
    return Path(out)
