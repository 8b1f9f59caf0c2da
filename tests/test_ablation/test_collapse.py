# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest

from ibot_mm.ablation import judge_collapse


def judge(entropy, prototypes=(40,) * 4, rank=(20,) * 4):
    """Measurements of [CLS] at each half epoch."""
    named = dict(cls_entropy=entropy, cls_prototypes=prototypes, cls_rank=rank)
    return judge_collapse(
        {name: [(i / 2, v) for i, v in enumerate(c)] for name, c in named.items()}
    )


@pytest.mark.parametrize(
    'measured, expected',
    [
        (dict(entropy=(0.99, 0.98, 0.6, 0.3)), None),  # has left
        (dict(entropy=(0.99, 0.98, 0.97, 0.96)), dict(kind='uniform', epoch=0.0)),
        (dict(entropy=(0.99, 0.5, 0.96, 0.99)), dict(kind='uniform', epoch=1.0)),
        (
            dict(entropy=(0.5,) * 4, prototypes=(9, 1.4, 1.1, 1)),
            dict(kind='one_prototype', epoch=0.5),
        ),
        (dict(entropy=(0.5, 0.1, 0.004, 0.001)), dict(kind='entropy_gone', epoch=1.0)),
        (dict(entropy=(0.5, 0.001, 0.1, 0.2)), None),
        (dict(entropy=(0.5,) * 4, rank=(20, 24, 5, 4)), dict(kind='rank_falling', epoch=1.0)),
    ],
)
def test_the_end_decides(measured, expected):
    assert judge(**measured) == expected


def test_a_training_without_monitor_is_not_judged():
    assert judge_collapse(dict(teacher_entropy=[(0.0, 4.1)])) is None
