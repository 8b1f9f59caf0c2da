# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whether a training has collapsed, from what it logged."""

from collections.abc import Mapping, Sequence
from typing import Any

from ibot_mm.engine.alarms import ALARMS, COLLAPSES, KINDS, History

Curves = Mapping[str, Sequence[tuple[float, float]]]
MEASURED = tuple(f'{kind}_{name}' for kind in KINDS for name in ('entropy', 'prototypes', 'rank'))


def judge_collapse(curves: Curves) -> dict[str, Any] | None:
    """Judge the end of a training by the rules of :class:`~ibot_mm.engine.hooks.AlarmHook`.

    Args:
        curves: See :func:`ibot_mm.visualization.read_curves`. A training without
            :class:`~ibot_mm.engine.hooks.MonitorHook` is not judged.

    Returns:
        None, or ``dict(kind=..., epoch=...)``: the alarm, and the time since which its condition
        holds, in the unit of the curves.
    """
    measured = {name: dict(curves[name]) for name in MEASURED if name in curves}
    times = sorted({time for curve in measured.values() for time in curve})
    history = History()
    found: dict[str, list[float]] = {name: [] for name in COLLAPSES}
    for time in times:
        values = {name: curve[time] for name, curve in measured.items() if time in curve}
        history.add(values)
        for name, since in found.items():
            if ALARMS[name](values, history) is None:
                since.clear()
            else:
                since.append(time)
    for name, since in found.items():
        if since:
            return dict(kind=name, epoch=round(since[0], 2))
    return None
