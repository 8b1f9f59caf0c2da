# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The demo configs of classification train and validate."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from ibot_mm.datasets.demo import DemoSettings, make_demo_data
from ibot_mm.models import IBOTNeck, MaskedVisionTransformer

CONFIGS = Path(__file__).parents[2] / 'configs/cls'
ARCH = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    settings = DemoSettings(num_train=40, num_val=20, num_scenes_train=1, num_scenes_val=1)
    return make_demo_data(tmp_path_factory.mktemp('data') / 'demo', settings) / 'imagenet'


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
    vit = MaskedVisionTransformer(arch=ARCH, img_size=32, patch_size=8, mask_token=False)
    neck = IBOTNeck(96, num_prototypes=256, hidden_channels=256, bottleneck_channels=64)
    vit.init_weights()
    state = {f'teacher.backbone.{n}': t for n, t in vit.state_dict().items()}
    state |= {f'teacher.neck.{n}': t for n, t in neck.state_dict().items()}
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    torch.save(dict(state_dict=state), path)
    return path


@pytest.fixture
def small(data, checkpoint, tmp_path):
    def small(name):
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        for loader in (cfg.train_dataloader, cfg.val_dataloader):
            loader.update(num_workers=0, persistent_workers=False, batch_size=20)
            loader.dataset.update(data_root=str(data), indices=None)
        cfg.test_dataloader = cfg.val_dataloader
        cfg.train_cfg.update(max_epochs=2, val_interval=1)
        cfg.learning_rate_schedule.update(
            dict(T_max=2) if name.startswith('linear') else dict(warmup=1)
        )
        cfg.param_scheduler = [cfg.learning_rate_schedule]
        cfg.default_hooks.checkpoint.interval = 1
        backbone = cfg.model.backbone
        backbone.get('backbone', backbone).init_cfg.checkpoint = str(checkpoint)
        if 'neck' in cfg.model:
            cfg.model.neck.init_cfg.checkpoint = str(checkpoint)
        cfg.update(work_dir=str(tmp_path / 'work_dir'), launcher='none')
        return cfg

    return small


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, metric',
    [
        ('linear_vit_demo', 'sweep/top1'),
        ('finetune_vit_demo', 'accuracy/top1'),
        ('semi_vit_demo', 'accuracy/top1'),
    ],
)
def test_demo_configs_train_from_the_checkpoint(name, metric, small, checkpoint, train):
    runner = train(small(name))
    assert runner.iter == 4
    scalars = runner.message_hub.log_scalars
    assert scalars[f'val/{metric}'].current() in range(0, 101, 5)  # of 20 images
    assert math.isfinite(scalars['train/loss'].current())
    stored = torch.load(checkpoint)['state_dict']['teacher.backbone.layers.0.attn.qkv.weight']
    weights = runner.model.state_dict()
    (trained,) = [t for n, t in weights.items() if n.endswith('layers.0.attn.qkv.weight')]
    assert torch.equal(trained, stored) == name.startswith('linear')
    if name.startswith('linear'):
        assert runner.model.head.best_head >= 0


@pytest.mark.slow
@pytest.mark.parametrize('name', ['linear_vit_demo', 'finetune_vit_demo'])
def test_a_head_of_a_thousand_classes_stops_before_training(name, small, train):
    cfg = small(name)
    cfg.model.head.num_classes = cfg.model.data_preprocessor.num_classes = 1000
    with pytest.raises(
        ValueError, match='data have 10 classes, and model.head.num_classes is 1000'
    ):
        train(cfg)


@pytest.mark.slow
def test_unsupervised_demo_reports_its_clusters(data, train, tmp_path):
    cfg = Config.fromfile(CONFIGS / 'unsupervised_vit_demo.py')
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=20)
    cfg.train_dataloader.dataset.data_root = str(data)
    for split in ('bank', 'query'):
        cfg.val_dataloader.dataset[split].data_root = str(data)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    cfg.learning_rate_schedule.warmup = 1
    cfg.param_scheduler = [cfg.learning_rate_schedule, cfg.weight_decay_schedule]
    cfg.default_hooks.temperature.warmup_epochs = 1
    cfg.default_hooks.progress = None
    cfg.update(work_dir=str(tmp_path / 'work_dir'), launcher='none')
    runner = train(cfg)
    assert runner.model.head.num_prototypes == 10
    values = {
        metric: runner.message_hub.get_scalar(f'val/{metric}').current()
        for metric in ('clustering/acc', 'clustering/nmi', 'knn/top1_k10')
    }
    assert values['clustering/acc'] in range(10, 101, 5)  # of 20 images in ten classes
    assert values['knn/top1_k10'] in range(0, 101, 5)
    assert 0 < values['clustering/nmi'] < 100
