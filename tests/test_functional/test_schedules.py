# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest

from ibot_mm.functional.schedules import cosine, linear, warmup_cosine


@pytest.mark.parametrize('num_steps', [1, 2, 7])
def test_linear_is_linspace_then_constant(num_steps):
    values = [linear(0.04, 0.07, step, num_steps) for step in range(num_steps + 3)]
    expected = [*np.linspace(0.04, 0.07, num_steps), 0.07, 0.07, 0.07]
    np.testing.assert_allclose(values, expected, rtol=1e-15)


@pytest.mark.parametrize('num_warmup_steps', [0, 1, 5])
def test_warmup_cosine_is_the_published_formula(num_warmup_steps):
    peak, end, num_steps = 2e-3, 1e-6, 20
    cosine_steps = np.arange(num_steps - num_warmup_steps)
    expected = np.concatenate(
        [
            np.linspace(0, peak, num_warmup_steps),
            end + (peak - end) / 2 * (1 + np.cos(np.pi * cosine_steps / len(cosine_steps))),
        ]
    )
    values = [warmup_cosine(peak, end, i, num_steps, num_warmup_steps) for i in range(num_steps)]
    np.testing.assert_allclose(values, expected, rtol=1e-14)


def test_cosine_starts_at_start_and_never_reaches_the_end_before_it():
    assert cosine(0.996, 1.0, 0, 100) == pytest.approx(0.996, abs=1e-15)
    assert 0.999 < cosine(0.996, 1.0, 99, 100) < 1.0
    assert cosine(0.996, 1.0, 100, 100) == 1.0
