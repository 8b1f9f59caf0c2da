# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
from scipy.stats import ttest_rel

from ibot_mm.ablation import paired_difference, summarize


def test_by_hand():
    found = summarize([1.0, 2.0, 6.0])
    assert (found.mean, found.count) == (3.0, 3)
    assert found.std == pytest.approx(7**0.5)  # (4 + 1 + 9) / 2
    # Differences 1, 2, 3: mean 2, deviation 1, quantile 4.302653 with two degrees of freedom.
    difference = paired_difference({0: 11.0, 1: 22.0, 2: 33.0}, {0: 10.0, 1: 20.0, 2: 30.0})
    margin = 4.302653 / 3**0.5
    assert (difference.mean, difference.count) == (2.0, 3)
    assert difference.low == pytest.approx(2 - margin, abs=1e-6)
    assert difference.high == pytest.approx(2 + margin, abs=1e-6)


@pytest.mark.parametrize('number', [2, 5, 9])
def test_as_scipy(number):
    rng = np.random.default_rng(number)
    arms = [dict(enumerate(rng.normal(50, 5, number).tolist())) for _ in range(2)]
    found = paired_difference(*arms)
    expected = ttest_rel(*(list(arm.values()) for arm in arms)).confidence_interval(0.95)
    assert [found.low, found.high] == pytest.approx([expected.low, expected.high])
    # By the seeds, in any order.
    turned = dict(reversed(arms[0].items()))
    assert paired_difference(turned, arms[1]) == found


def test_seeds_that_one_arm_lacks():
    found = paired_difference({0: 1.0, 2: 5.0, 3: 9.0}, {0: 0.0, 1: 3.0, 2: 3.0})
    assert (found.mean, found.count) == (1.5, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    single = paired_difference({0: 4.0}, {0: 1.0})
    assert (single.mean, single.low, single.high, single.count) == (3.0, None, None, 1)
    assert summarize([4.0]).std is None
