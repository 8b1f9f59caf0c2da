# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Benchmarks of linear probing, tasks and memory, at a size of a second."""

import pytest
import torch

from benchmarks import (
    evaluation,
    evaluation_memory,
    linear_sweep,
    measurement,
    online_probe,
    task_memory,
)
from benchmarks.evaluation_tasks import agreement

pytestmark = pytest.mark.slow


def test_linear_sweep(capsys):
    options = ['--batch-size=2', '--image-size=32', '--classes=3', '--rounds=1']
    result = linear_sweep.main(options)
    (ratio,) = result['settings']['over_one']
    figures = result['figures']
    expected = figures[measurement.OURS]['median'] / figures[linear_sweep.SINGLE]['median']
    assert ratio == pytest.approx(expected)
    assert f'{ratio:.2f} times as long as one' in capsys.readouterr().out


def test_online_probe(capsys):
    options = [
        '--arch=tiny', '--batch-size=2', '--global-crop-size=64', '--local-crops=0',
        '--prototypes=64', '--rounds=1',
    ]  # fmt: skip
    result = online_probe.main(options)
    (share,) = result['settings']['share']
    figures = result['figures']
    assert share == pytest.approx(figures['probe']['median'] / figures['step']['median'])
    assert 'adds' in capsys.readouterr().out


@pytest.mark.long
def test_memory_does_not_grow_with_the_images():
    few, many = (evaluation_memory.measure(number) for number in (400, 3200))
    assert many['stored'] - few['stored'] > 25
    assert many['peak'] - few['peak'] < 10


@pytest.mark.long
def test_memory_of_tasks_does_not_grow():
    """Of eight times the frames, and of images whose features take 88 MiB more."""
    for figures in task_memory.main([])['figures'].values():
        few, many = figures.values()
        assert many - few < 15


@pytest.mark.parametrize('protocol', ['davis', 'retrieval'])
def test_tasks(protocol):
    result = evaluation.main(
        [f'--protocol={protocol}', '--frames=2', '--channels=8', '--share=0.1', '--rounds=1']
    )
    assert result['figures'][measurement.OURS]['median'] > 0
    assert result['title'] == f'{protocol} evaluation'


def test_agreement_is_a_share():
    sides = {measurement.OURS: torch.tensor([1, 2]), measurement.PUBLISHED: torch.tensor([1, 3])}
    assert agreement(sides) == 0.5
