# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Recorded evaluations of the published code, replayed by the tool that users have."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

TOP = Path(__file__).parents[2]
DATA = TOP / 'tests/data/evaluation'
PROTOCOLS = sorted(path.stem for path in DATA.glob('*.npz'))

sys.path.insert(0, str(TOP / 'tools/analysis_tools'))

import replay_evaluation  # noqa: E402
from evaluation_recordings import compare, find_replay, replay  # noqa: E402
from evaluation_recordings.recording import Recording  # noqa: E402


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_replay(protocol, capsys):
    replay_evaluation.main([str(DATA / f'{protocol}.npz')])
    match = re.search(
        r'^worst relative error: (\S+), mismatches: (\d+)$', capsys.readouterr().out, re.MULTILINE
    )
    assert float(match[1]) <= 1e-9
    assert match[2] == '0'


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_protocol_is_recognized_by_its_arrays(protocol):
    assert find_replay(Recording(DATA / f'{protocol}.npz'))[0] == protocol


def test_several_files_share_one_last_line(capsys):
    replay_evaluation.main([str(DATA / 'knn.npz')] * 2)
    assert capsys.readouterr().out.count('worst relative error:') == 1


def test_changed_recording_is_seen(tmp_path):
    arrays = dict(np.load(DATA / 'knn.npz'))
    arrays['k5.votes'] = arrays['k5.votes'] * (1 + 1e-6)
    arrays['k5.order'] = arrays['k5.order'][:, ::-1]
    np.savez(tmp_path / 'changed.npz', **arrays)
    _, differences = replay(tmp_path / 'changed.npz')
    assert differences['k5.votes'].relative_error > 1e-7
    assert differences['k5.order'].mismatches > 0
    assert differences['k10.order'].mismatches == 0


def test_array_without_replay_is_an_error(tmp_path):
    arrays = dict(np.load(DATA / 'knn.npz'))
    np.savez(tmp_path / 'more.npz', **arrays, surprise=np.zeros(3))
    with pytest.raises(ValueError, match='leaves out surprise'):
        replay(tmp_path / 'more.npz')


@pytest.mark.parametrize(
    'arrays, message',
    [
        (dict(x=np.zeros(2)), "no array 'config_json'"),
        (dict(x=np.zeros(2), config_json='{}'), 'no known protocol'),
    ],
)
def test_foreign_file_is_an_error(arrays, message, tmp_path):
    np.savez(tmp_path / 'foreign.npz', **arrays)
    with pytest.raises(ValueError, match=message):
        replay(tmp_path / 'foreign.npz')


@pytest.mark.parametrize(
    'value, error, mismatches',
    [
        ([1.0, 2.0, np.nan], 0.0, 0),
        ([1.0, 2.2, np.nan], 0.1, 0),
        ([1.0, np.nan, np.nan], np.inf, 1),
        ([1.0, 2.0, 3.0], np.inf, 1),
        ([1.0, 2.0], np.inf, 3),
    ],
)
def test_compare(value, error, mismatches):
    difference = compare(value, np.array([1.0, 2.0, np.nan]))
    assert difference.relative_error == pytest.approx(error)
    assert difference.mismatches == mismatches
