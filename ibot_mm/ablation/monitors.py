# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which monitor tells quality without labels: rank correlations, and what a choice by it costs."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.stats import spearmanr

from .checkpoints import Row
from .statistics import Summary, summarize

LEAST = 4  # values for a rank correlation
LAST = 'last checkpoint'


@dataclass(frozen=True)
class Comparison:
    """What one monitor tells of one metric.

    Args:
        monitor: Its name, or 'last checkpoint'.
        within: Spearman's correlation over the checkpoints of a training, over trainings; None
            where no training has enough checkpoints, or the monitor does not vary.
        across: The same over the last checkpoints of all trainings.
        rule: 'greater' or 'less': the better one by the sign of ``within``.
        loss: Points that the checkpoint chosen by this rule is below the training's best, mean
            over trainings.
    """

    monitor: str
    within: Summary | None
    across: float | None
    rule: str
    loss: float | None


def compare_monitors(runs: Mapping[str, Sequence[Row]], metric: str) -> list[Comparison]:
    """Compare every monitor with a metric.

    Args:
        runs: Training -> rows of :func:`~ibot_mm.ablation.checkpoints.measure_checkpoints`.
        metric: Such as 'knn'.

    Returns:
        The smallest loss first; with a row that takes the last checkpoint.

    Raises:
        ValueError: If no training has two checkpoints with this metric.
    """
    kept = {name: [row for row in rows if metric in row['metrics']] for name, rows in runs.items()}
    kept = {name: rows for name, rows in kept.items() if len(rows) > 1}
    if not kept:
        raise ValueError(
            f'no training has two checkpoints with {metric}: train with '
            'default_hooks.checkpoint.max_keep_ckpts=-1 and a short checkpoint.interval'
        )
    names = sorted({name for rows in kept.values() for row in rows for name in row['monitors']})
    last = fmean(_best(rows, metric) - rows[-1]['metrics'][metric] for rows in kept.values())
    found = [_compare(kept, metric, name) for name in names]
    found.append(Comparison(LAST, None, None, '', last))
    return sorted(found, key=lambda c: float('inf') if c.loss is None else c.loss)


def _compare(runs: Mapping[str, Sequence[Row]], metric: str, monitor: str) -> Comparison:
    pairs = {
        name: [
            (row['monitors'][monitor], row['metrics'][metric])
            for row in rows
            if monitor in row['monitors']
        ]
        for name, rows in runs.items()
    }
    correlations = [c for of_run in pairs.values() if (c := _correlate(of_run)) is not None]
    within = summarize(correlations) if correlations else None
    across = _correlate([of_run[-1] for of_run in pairs.values() if of_run])
    if within is None:
        return Comparison(monitor, None, across, '', None)
    sign = 1 if within.mean >= 0 else -1
    losses = [
        max(value for _, value in of_run) - max(of_run, key=lambda pair: sign * pair[0])[1]
        for of_run in pairs.values()
        if of_run
    ]
    return Comparison(monitor, within, across, 'greater' if sign > 0 else 'less', fmean(losses))


def _correlate(pairs: Sequence[tuple[float, float]]) -> float | None:
    if len(pairs) < LEAST:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # a constant has no correlation: None
        value = float(spearmanr(*zip(*pairs)).statistic)
    return value if value == value else None


def _best(rows: Sequence[Row], metric: str) -> float:
    return max(row['metrics'][metric] for row in rows)
