# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import pytest
from mmengine.config import Config

from ibot_mm.ablation import judge_collapse

PROTOTYPES = 64


def judge(shares, agreement=0.5, **head):
    """Entropies as shares of ln K, one for each half epoch."""
    times = [index / 2 for index in range(len(shares))]
    curves = dict(
        teacher_entropy=[(t, share * math.log(PROTOTYPES)) for t, share in zip(times, shares)],
        agreement=[(t, agreement) for t in times],
    )
    head = dict(num_prototypes=PROTOTYPES, **head)
    return judge_collapse(curves, Config(dict(model=dict(head=head))))


@pytest.mark.parametrize(
    'shares, agreement, expected',
    [
        ([0.99, 0.98, 0.6, 0.3], 0.5, None),  # has left
        ([0.99, 0.98, 0.97], 0.1, dict(kind='uniform targets', epoch=0.0)),
        ([0.99, 0.5, 0.96, 0.99], 0.1, dict(kind='uniform targets', epoch=1.0)),
        ([0.5, 0.1, 0.005, 0.001], 1.0, dict(kind='one prototype', epoch=1.0)),
        ([0.5, 0.1, 0.005, 0.001], 0.7, None),  # sharp, and of more than one prototype
        ([0.5, 0.001, 0.1], 1.0, None),
    ],
)
def test_the_end_decides(shares, agreement, expected):
    assert judge(shares, agreement) == expected


def test_what_is_not_judged():
    assert judge([0.99], cls_weight=0.0) is None
    assert judge([]) is None
