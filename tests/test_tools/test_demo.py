# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo's own config and tools on a handful of its images (`make demo` is the whole)."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

TOP = Path(__file__).parents[2]
CONFIG = 'configs/pretrain/ibot_vit_demo.py'


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


@pytest.mark.parametrize(
    'mask_ap, behind',
    [(0.2, None), (0.1, 'not ahead in .* mask AP'), (0.05, 'not ahead in .* mask')],
)
def test_transfer_fails_unless_ahead_in_every_metric(mask_ap, behind, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('demo', TOP / 'tools/demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    scratch = {'coco/bbox_mAP': 0.1, 'coco/segm_mAP': 0.1, 'mIoU': 10.0}
    pretrained = {'coco/bbox_mAP': 0.2, 'coco/segm_mAP': mask_ap, 'mIoU': 20.0}
    monkeypatch.setattr(demo, 'pretrain', lambda: Path('epoch_1.pth'))
    monkeypatch.setattr(demo, 'compare', lambda *_: dict(pretrained=pretrained, scratch=scratch))
    if behind:
        with pytest.raises(SystemExit, match=behind):
            demo.show_transfer()
    else:
        demo.show_transfer()
    printed = capsys.readouterr().out
    assert all(title in printed for title in ('box AP', 'mask AP', 'mIoU'))


def test_make_refuses_an_unknown_stage():
    result = subprocess.run(
        ['make', 'run-demo', 'STOP=later'], cwd=TOP, capture_output=True, text=True
    )
    assert result.returncode and 'STOP=pretrain' in result.stderr
