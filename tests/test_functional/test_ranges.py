# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest

from ibot_mm.functional.ranges import check_ranges


@pytest.mark.parametrize(
    ('interval', 'inside', 'outside'),
    [
        ('[0, 1]', [0, 0.5, 1, (0.0, 1.0)], [-0.1, 1.1, float('nan'), '0.5', (0.5, 2), True]),
        ('[0, 1)', [0], [1]),
        ('(0, inf)', [1e-9, 1e9], [0, -1, float('inf')]),
        ('int [1, inf)', [1, 7], [0, 1.5, '1']),
    ],
)
def test_intervals(interval, inside, outside):
    for value in [*inside, None]:
        check_ranges('It', {interval: dict(x=value)})
    for value in outside:
        with pytest.raises(ValueError, match='It: x must .*be a (whole )?number in'):
            check_ranges('It', {interval: dict(x=value)})


def test_all_faults_are_named():
    with pytest.raises(ValueError, match=r'a must be .* got 2; b must be .* got 3; c must each'):
        check_ranges('It', {'[0, 1]': dict(a=2, b=3, ok=1), '(0, 1)': dict(c=(0.5, 5))})
