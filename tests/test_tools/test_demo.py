# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo's own config and tools on a handful of its images (`make demo` is the whole)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TOP = Path(__file__).parents[2]
CONFIG = 'configs/pretrain/ibot_demo.py'


def call(*command):
    words = [sys.executable, *map(str, command)]
    result = subprocess.run(words, cwd=TOP, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return result


@pytest.mark.slow
def test_demo_at_small_size(tmp_path):
    data, work_dir = tmp_path / 'data', tmp_path / 'work_dir'
    call(
        'tools/dataset_converters/make_demo_data.py',
        *('--out', data, '--train', 160, '--val', 40),
    )
    splits = ('train_dataloader.dataset', 'val_dataloader.dataset.bank',
              'val_dataloader.dataset.query', 'test_dataloader.dataset.bank',
              'test_dataloader.dataset.query')  # fmt: skip
    roots = ['--cfg-options', *(f'{split}.data_root={data}/imagenet' for split in splits)]
    call(
        *('tools/train.py', CONFIG, '--work-dir', work_dir, *roots),
        *('train_cfg.max_epochs=8', 'train_cfg.val_interval=4', 'param_scheduler.0.warmup=2'),
        *('default_hooks.temperature.warmup_epochs=4', 'default_hooks.logger.interval=1'),
    )
    checkpoint = work_dir / 'epoch_8.pth'
    out = tmp_path / 'knn.json'
    call('tools/test.py', CONFIG, checkpoint, '--out', out, *roots)
    assert 0 <= json.loads(out.read_text())['knn/top1_k10'] <= 100
    pictures = tmp_path / 'attention.png', tmp_path / 'curves.png'
    call(
        'tools/analysis_tools/visualize_attention.py',
        *(CONFIG, checkpoint, '--out', pictures[0], *roots),
    )
    call('tools/analysis_tools/plot_curves.py', work_dir, '--out', pictures[1])
    for picture in pictures:
        assert min(Image.open(picture).size) > 100
