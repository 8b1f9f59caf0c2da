# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
import re

import pytest

TOOL = 'tools/analysis_tools/average_evaluations.py'


@pytest.fixture
def evaluations(tmp_path):
    """Three seeds of one group, two of another; `occlusion` has two settings."""
    for name, value in (('a_0', 1.0), ('a_1', 2.0), ('a_12', 6.0), ('b_0', 3.0), ('b_12', 10.0)):
        row = dict(protocol='knn', metric='top1', value=value, setting=dict(k=20))
        settings = [
            dict(setting=dict(drop=drop), metrics=dict(top1=value - drop)) for drop in (0, 0.5)
        ]
        results = dict(
            summary=dict(teacher=[row], untrained=[row | dict(value=0.0)]),
            measurements=dict(teacher=dict(occlusion=settings), untrained={}),
        )
        folder = tmp_path / 'evaluations' / name
        folder.mkdir(parents=True)
        (folder / 'results.json').write_text(json.dumps(results))
    return tmp_path / 'evaluations'


def test_by_hand(call, evaluations):
    found = call(TOOL, f'a={evaluations}/a_*', f'b={evaluations}/b_*').stdout
    # 1, 2, 6: mean 3, deviation √7. Pairs of seeds 0 and 12: 2 and 4, mean 3, t(0.975, 1) = 12.7.
    assert '| knn top1 | 3.0 ± 2.6 | 6.5 ± 4.9 | +3.0 [-9.7, +15.7] |' in found
    found = call(TOOL, '--every-setting', f'a={evaluations}/a_*').stdout
    assert '| occlusion drop=0.5 top1 | 2.5 ± 2.6 |' in found
    found = call(TOOL, f'a={evaluations}/a_*', f'raw:untrained={evaluations}/a_*').stdout
    assert '| knn top1 | 3.0 ± 2.6 | 0.0 ± 0.0 | -3.0 [-9.6, +3.6] |' in found


@pytest.mark.parametrize(
    ('word', 'message'),
    [
        ('a={}/c_*', "there is no folder like '.*c_.*'; write NAME=PATTERN"),
        ('a', "there is no folder like ''; write NAME=PATTERN"),
        ('a:student={}/a_*', "does not have 'student', only teacher, untrained"),
        ('a={}/*', 'seed 0 comes twice: .*a_0 and .*b_0'),
        ('a={}', 'the name must end with the seed'),
        ('a={}/empty_*', 'empty_3 does not have results.json: run tools/evaluate.py'),
    ],
)
def test_wrong_input(call, evaluations, word, message):
    (evaluations / 'empty_3').mkdir()
    result = call(TOOL, word.format(evaluations), may_fail=True)
    assert result.returncode == 1 and re.search(message, result.stderr)
