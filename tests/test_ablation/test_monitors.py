# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest

from ibot_mm.ablation import compare_monitors
from ibot_mm.ablation.checkpoints import read_monitors


def rows(knn, **monitors):
    """Checkpoints of a training: an accuracy and the monitors' values at each."""
    return [
        dict(
            checkpoint=f'epoch_{i}.pth',
            time=float(i),
            metrics=dict(knn=accuracy),
            monitors={name: values[i] for name, values in monitors.items()},
        )
        for i, accuracy in enumerate(knn)
    ]


def test_by_hand():
    runs = {
        'full/seed_0': rows((30, 40, 50, 45), rank=(1, 2, 4, 3), loss=(9, 6, 4, 5), flat=(1,) * 4),
        'full/seed_1': rows((30, 40, 50, 60), rank=(2, 1, 3, 4), loss=(4, 3, 2, 1), flat=(1,) * 4),
    }
    found = {row.monitor: row for row in compare_monitors(runs, 'knn')}
    # Ranks 2, 1, 3, 4 of 1, 2, 3, 4: 1 - 6 * 2 / (4 * 15).
    rank = found['rank']
    assert rank.within.mean == pytest.approx((1 + 0.8) / 2)
    assert (rank.rule, rank.loss) == ('greater', 0)
    assert found['loss'].within.mean == pytest.approx(-1)
    assert (found['loss'].rule, found['loss'].loss) == ('less', 0)
    assert (found['flat'].within, found['flat'].loss) == (None, None)
    assert found['last checkpoint'].loss == pytest.approx((5 + 0) / 2)
    assert rank.across is None  # two trainings are too few


def test_across_takes_the_last_checkpoints():
    ends = {0: 50, 1: 40, 2: 30, 3: 20}
    runs = {f'arm/seed_{s}': rows((10, end), rank=(9, s)) for s, end in ends.items()}
    found = {row.monitor: row for row in compare_monitors(runs, 'knn')}
    assert found['rank'].across == pytest.approx(-1)
    assert found['rank'].within is None  # two checkpoints are too few


def test_a_bad_choice_costs():
    runs = {'a/seed_0': rows((30, 40, 50, 60, 20), rank=(1, 2, 3, 4, 5))}
    (rank,) = (row for row in compare_monitors(runs, 'knn') if row.monitor == 'rank')
    assert rank.within.mean == pytest.approx(0)  # 20 is at its end
    assert (rank.rule, rank.loss) == ('greater', 40)


def test_one_checkpoint_compares_nothing():
    with pytest.raises(ValueError, match='max_keep_ckpts=-1'):
        compare_monitors({'a/seed_0': rows((30,), rank=(1,))}, 'knn')


def test_monitors_of_a_validation_and_losses_before_it():
    curves = {
        'monitor/cls_rank': [(2.0, 5.0), (4.0, 7.0)],
        'loss_cls': [(1.0, 8.0), (2.0, 6.0), (3.0, 4.0), (4.0, 2.0), (5.0, 1.0)],
        'knn/top1_k20': [(4.0, 50.0)],
    }
    assert read_monitors(curves, 2.0, 4.0) == dict(cls_rank=7.0, loss_cls=3.0)
    assert read_monitors(curves, 4.0, 5.0) == dict(loss_cls=1.0)
