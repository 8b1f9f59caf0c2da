# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whether a training has collapsed, from what it logged."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmengine.config import Config

UNIFORM, SHARP, AGREEING = 0.95, 0.01, 0.99


def judge_collapse(
    curves: Mapping[str, Sequence[tuple[float, float]]], cfg: Config
) -> dict[str, Any] | None:
    """Judge the [CLS] targets at the end of a training.

    They have collapsed if their entropy is above 0.95 of ln K, all images have every prototype
    alike; or below 0.01 of ln K while student and teacher agree on 0.99 of the images, all have
    the same prototype. A training without [CLS] loss is not judged.

    Args:
        curves: See :func:`ibot_mm.visualization.read_curves`.
        cfg: Of the training.

    Returns:
        None, or ``dict(kind=..., epoch=...)`` with the time since which it has been so, in the
        unit of the curves.
    """
    entropy, agreement = curves.get('teacher_entropy'), dict(curves.get('agreement', ()))
    if not entropy or cfg.model.head.get('cls_weight') == 0:
        return None
    uniform = math.log(cfg.model.head.get('num_prototypes', 8192))
    shares = [(time, value / uniform) for time, value in entropy]
    kinds: dict[str, Callable[[float, float], bool]] = {
        'uniform targets': lambda time, share: share > UNIFORM,
        'one prototype': lambda time, share: share < SHARP and agreement.get(time, 0.0) >= AGREEING,
    }
    for kind, is_so in kinds.items():
        since = None
        for time, share in reversed(shares):
            if not is_so(time, share):
                break
            since = time
        if since is not None:
            return dict(kind=kind, epoch=round(since, 2))
    return None
