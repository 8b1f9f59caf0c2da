# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Validation before the first step, and start and now side by side."""

import json
import re
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner

pytestmark = pytest.mark.slow

NAMES = [f'knn/top{n}_k{k}' for k in (1, 5) for n in (1, 5)]


@pytest.fixture
def config(tiny_config):
    tiny_config.default_hooks.start = dict(type='ibot_mm.CompareWithStartHook')
    tiny_config.default_hooks.logger.interval = 2
    tiny_config.train_cfg.update(max_epochs=3, val_interval=2)
    return tiny_config


def log_of(runner):
    return (Path(runner.log_dir) / f'{runner.timestamp}.log').read_text()


def validations(runner):
    path = Path(runner.log_dir) / 'vis_data/scalars.json'
    records = map(json.loads, path.read_text().splitlines())
    return [(r['step'], {name: r[name] for name in NAMES}) for r in records if NAMES[0] in r]


def test_the_start_is_measured_before_the_first_step(config, train):
    """It is what a test of the untouched weights gives; logged with each later validation."""
    runner = train(config)
    (first, start), (second, _), (third, end) = validations(runner)
    assert (first, second, third) == (0, 2, 3)
    log = log_of(runner)
    assert log.index('Epoch(val) [0]') < log.index('Epoch(train)')
    found = re.findall(r'After (\d+) iterations:((?:\n.*: start .*, now .*)+)', log)
    assert [int(iterations) for iterations, _ in found] == [4, 6]
    lines = found[-1][1].strip().splitlines()
    assert len(lines) == len(NAMES)
    for line, name in zip(lines, NAMES):
        a, b = start[name], end[name]
        assert line == f'{name}: start {a:.4g}, now {b:.4g} ({b - a:+.4g})'


def test_it_is_the_start(config, train):
    """Its metrics are those of a test of the weights that the training starts from."""
    config.experiment_name = 'start'
    runner = Runner.from_cfg(config)
    runner.model.init_weights()
    tested = runner.test()
    config.load_from = f'{config.work_dir}/start.pth'
    torch.save(dict(state_dict=runner.model.state_dict()), config.load_from)
    _, start = validations(train(config))[0]
    assert start == {name: tested[name] for name in NAMES}


def test_a_resumed_training_compares_with_the_same_start(config, train):
    whole = train(config)
    config.merge_from_dict(dict(resume=True, load_from=f'{config.work_dir}/epoch_2.pth'))
    config.work_dir += '_resumed'  # two runs within a second would share a log
    resumed = train(config)
    last = 'After 6 iterations:'
    assert log_of(whole).partition(last)[2][:200] == log_of(resumed).partition(last)[2][:200]
    # The start was not measured again; the checkpoint was saved before the validation of epoch 2.
    assert [step for step, _ in validations(resumed)] == [2, 3]


def test_the_training_stays_the_same(config, train):
    with_hook = train(config).model.state_dict()
    config.default_hooks.pop('start')
    torch.testing.assert_close(train(config).model.state_dict(), with_hook, rtol=0, atol=0)


def test_without_labels_nothing_is_measured(config, train):
    config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    runner = train(config)
    assert log_of(runner).count('The start is not measured: the config has no validation') == 1
    assert runner.iter == 6
