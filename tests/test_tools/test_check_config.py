# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""tools/analysis_tools/check_config.py, and tools/train.py before it trains."""

from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
DEMO = 'configs/pretrain/ibot_vit_demo.py'


@pytest.mark.slow
def test_check_config(call):
    tool = ('tools/analysis_tools/check_config.py', DEMO, '--without-data')
    sound = call(*tool)
    assert sound.returncode == 0 and sound.stdout.endswith('no fault found\n'), sound.stderr
    options = ['--cfg-options', 'resum=True', 'model.head.center_momentum=9']
    faulty = call(*tool, *options, may_fail=True)
    assert faulty.returncode == 1 and 'has 2 faults' in faulty.stderr
    assert 'resum: ' in faulty.stderr and 'model.head: ' in faulty.stderr
    assert 'Traceback' not in faulty.stderr


@pytest.mark.slow
def test_train_ends_before_it_begins(tmp_path, call):
    result = call(
        'tools/train.py', DEMO, '--work-dir', tmp_path / 'work', '--cfg-options',
        'train_dataloader.dataset.data_root=/nowhere', 'default_hooks.checkpoint.intervall=1',
        may_fail=True,
    )  # fmt: skip
    assert result.returncode == 1 and 'there is no folder /nowhere/train' in result.stderr
    assert "'interval' meant" in result.stderr and 'Traceback' not in result.stderr
    assert not (tmp_path / 'work').exists()
