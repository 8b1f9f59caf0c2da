# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo configs of detection and segmentation train and test, also through the tools."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook

from .conftest import CONFIGS

TOP = CONFIGS.parent
ARCH = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
QKV = 'backbone.layers.0.attn.qkv.weight'


@pytest.fixture
def small(demo_data, save_checkpoint, tmp_path):
    """A demo config for the small data: four steps of two images, every number else its own."""

    def small(name):
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        segmentation = name.startswith('seg')
        root = demo_data / ('ade' if segmentation else 'coco')
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            loader.update(num_workers=0, persistent_workers=False)
            loader.dataset.data_root = f'{root}/'
        cfg.train_dataloader.update(batch_size=2)
        cfg.train_dataloader.dataset.indices = 4
        if segmentation:
            cfg.train_cfg.update(max_iters=4, val_interval=4)
            cfg.default_hooks.checkpoint.interval = 2
        else:
            cfg.val_evaluator.ann_file = f'{root}/annotations/instances_val.json'
            cfg.test_evaluator = cfg.val_evaluator
            cfg.train_cfg.update(max_epochs=2, val_interval=2)
            cfg.default_hooks.checkpoint.interval = 1
        cfg.default_hooks.logger.interval = 1
        model = cfg.model.get('module', cfg.model)
        checkpoint = save_checkpoint(arch=ARCH, img_size=32, patch_size=8)
        model.backbone.init_cfg.checkpoint = str(checkpoint)
        cfg.work_dir = str(tmp_path / 'work_dir')
        return cfg

    return small


class Weights(Hook):
    """Keeps a weight as it is before training."""

    def before_train(self, runner):
        self.start = runner.model.get_parameter(QKV).detach().clone()


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'det/mask_rcnn_vit_demo',
        'det/mask_rcnn_vit_vitdet_demo',
        'det/mask_rcnn_vit_windowed_demo',
        pytest.param('det/cascade_mask_rcnn_vit_demo', marks=pytest.mark.long),
        'det/faster_rcnn_vit_demo',
        'seg/upernet_vit_demo',
        'seg/upernet_vit_windowed_demo',
        'seg/linear_vit_demo',
    ],
)
def test_demo_configs_start_from_the_checkpoint_train_and_evaluate(name, small, train):
    cfg = small(name)
    cfg.launcher = 'none'
    weights = Weights()
    runner = train(cfg, weights)
    assert runner.iter == 4
    stored = torch.load(cfg.model.backbone.init_cfg.checkpoint)['state_dict'][f'teacher.{QKV}']
    assert torch.equal(weights.start, stored)
    assert torch.equal(runner.model.get_parameter(QKV), stored) == ('linear' in name)
    metric = 'val/mIoU' if name.startswith('seg') else 'val/coco/bbox_mAP'
    assert metric in runner.message_hub.log_scalars


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, last, half, metric, dtype',
    [
        # mmcv's operators, such as NMS, do not know bf16; fp16 becomes float32 on the CPU.
        pytest.param(
            *(
                'det/mask_rcnn_vit_demo',
                'epoch_2.pth',
                'train_cfg.max_epochs=1',
                'coco/bbox_mAP',
                None,
            ),
            marks=pytest.mark.long,
        ),
        pytest.param(
            *('seg/upernet_vit_demo', 'iter_4.pth', 'train_cfg.max_iters=2', 'mIoU', 'bfloat16'),
            marks=pytest.mark.long,
        ),
    ],
)
def test_tools_train_resume_and_test(name, last, half, metric, dtype, small, tmp_path, call):
    """On two processes, in mixed precision, the learning rate scaled to the batch."""
    config = tmp_path / 'small.py'
    cfg = small(name)
    cfg.optim_wrapper.update(type='OptimWrapper')  # --amp makes ours of it
    cfg.dump(config)
    work_dir = tmp_path / 'elsewhere'
    dtype = [f'optim_wrapper.dtype={dtype}'] if dtype else []
    options = ['--work-dir', work_dir, '--amp', '--auto-scale-lr']
    train = ['bash', 'tools/dist_train.sh', config, 2, *options]
    call(*train, '--cfg-options', half, *dtype)
    result = call(*train, '--resume', *(['--cfg-options', *dtype] if dtype else []))
    output = result.stdout + result.stderr
    assert re.search(r'resumed epoch|resumed iter|resumed from', output)
    assert 'Scaling the original LR by 1.0' in output  # two processes of two images, for four
    assert 'Learning rate of each depth of ViTPyramid' in output
    assert (work_dir / last).exists()

    results = {}
    for tool in (['tools/test.py', config, work_dir / last],
                 ['bash', 'tools/dist_test.sh', config, work_dir / last, 2]):  # fmt: skip
        out = tmp_path / 'metrics.json'
        call(*tool, '--work-dir', work_dir, '--out', out)
        results[tool[0]] = json.loads(out.read_text())
    one, two = results.values()
    assert metric in one and one == pytest.approx(two)


@pytest.mark.slow
def test_tools_test_at_several_scales(small, tmp_path, call):
    config = tmp_path / 'small.py'
    small('seg/upernet_vit_demo_ms').dump(config)
    out = tmp_path / 'metrics.json'
    call('tools/test.py', config, 'none', '--out', out,
         '--work-dir', tmp_path / 'work_dir')  # fmt: skip
    metrics = json.loads(out.read_text())
    assert set(metrics) == {'aAcc', 'mIoU', 'mAcc'} and all(map(math.isfinite, metrics.values()))


@pytest.mark.slow
def test_a_neck_that_does_not_fit_stops_the_training_at_once(small, train):
    cfg = small('det/mask_rcnn_vit_demo')
    cfg.launcher = 'none'
    cfg.model.neck.in_channels = [96, 96, 96, 64]
    with pytest.raises(ValueError, match=r'model.neck.in_channels is \[96, 96, 96, 64\]'):
        train(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('tool', ['train', pytest.param('test', marks=pytest.mark.long)])
def test_tools_say_how_to_get_the_operators(tool, tmp_path, call):
    """With an mmcv without operators on the path, as setting up pre-training alone leaves it."""
    (tmp_path / 'sitecustomize.py').write_text("import sys\nsys.modules['mmcv._ext'] = None\n")
    arguments = [CONFIGS / 'det/mask_rcnn_vit_demo.py', *(['none'] if tool == 'test' else [])]
    path = f'{tmp_path}:{TOP}'
    result = call(f'tools/{tool}.py', *arguments, may_fail=True, PYTHONPATH=path)
    assert result.returncode != 0
    assert 'ImportError' in result.stderr and 'make setup-full' in result.stderr
    assert not Path(tmp_path / 'work_dirs').exists()
