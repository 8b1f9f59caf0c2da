# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import argparse
import json

import pytest

from benchmarks import measurement


def test_sides_take_turns():
    calls = []

    def side(name, values):
        def run():
            calls.append(name)
            return values

        return run

    measured = measurement.alternate(dict(a=side('a', [1, 5, 3]), b=side('b', [2, 4])), rounds=2)
    assert calls == ['a', 'b'] * 3  # the first turn warms up
    assert measured == dict(a=[3, 3], b=[3, 3])


def test_report(tmp_path, capsys):
    measured = {measurement.PUBLISHED: [8.0, 12.0, 10.0], measurement.OURS: [2.0, 2.0, 5.0]}
    path = tmp_path / 'figures.json'
    result = measurement.report('A step', 's', measured, dict(images=3), path)
    ours = result['figures'][measurement.OURS]
    assert ours == dict(
        median=2.0, lowest=2.0, highest=5.0, ratio=4.0, ratio_lowest=2.0, ratio_highest=6.0
    )
    assert json.loads(path.read_text()) == result
    assert result['settings'] == dict(images=3)
    assert result['machine']['cores'] >= 1
    assert '4.00 (2.00 to 6.00)' in capsys.readouterr().out


def test_report_without_the_published_side(capsys):
    result = measurement.report('A step', 's', {measurement.OURS: [2.0]}, {})
    assert result['figures'][measurement.OURS] == dict(median=2.0, lowest=2.0, highest=2.0)
    assert 'times as fast' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('options', 'expected'),
    [([], (None, 10)), (['--reference', 'x', '--rounds', '3'], ('x', 3))],
)
def test_options(options, expected):
    parser = argparse.ArgumentParser()
    measurement.add_arguments(parser)
    args = parser.parse_args(options)
    assert (args.reference, args.rounds) == expected
