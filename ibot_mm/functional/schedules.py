# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Schedules: step -> value. Closed forms, so that resuming needs nothing but the step."""

import math


def cosine(start: float, end: float, step: int, num_steps: int) -> float:
    """Follow half a cosine from ``start`` at step 0 to ``end`` at ``num_steps``."""
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * step / num_steps))


def linear(start: float, end: float, step: int, num_steps: int) -> float:
    """Return point ``step`` of ``num_steps`` equally spaced ones, both ends included, then ``end``.

    The published code writes it ``numpy.linspace(start, end, num_steps)``; as there, a single
    point is ``start``.
    """
    if step >= num_steps:
        return end
    return start + (end - start) * step / max(num_steps - 1, 1)


def warmup_cosine(
    peak: float, end: float, step: int, num_steps: int, num_warmup_steps: int = 0
) -> float:
    """Rise from 0 to ``peak`` over ``num_warmup_steps``, then follow a cosine to ``end``.

    The step after the warm-up is ``peak`` a second time, as published.
    """
    if step < num_warmup_steps:
        return linear(0.0, peak, step, num_warmup_steps)
    return cosine(peak, end, step - num_warmup_steps, num_steps - num_warmup_steps)
