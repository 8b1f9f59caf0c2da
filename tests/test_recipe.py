# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is chosen for a folder of images."""

import pytest

from ibot_mm.batch_size import halve_until
from ibot_mm.config_check import check_config
from ibot_mm.recipe import CONFIGS, MODELS, Situation, check_model, plan_training

SITUATION = Situation(images=20_000, train={}, held_out=None, device='cpu', cores=4)


def plan(tmp_path, labeled=False, kind='ImageFolder', **kwargs):
    source = dict(type=f'ibot_mm.{kind}', data_root=str(tmp_path))
    kwargs['train'] = dict(source, data_prefix='train') if labeled else source
    kwargs['held_out'] = dict(source, data_prefix='val') if labeled else None
    situation = {k: kwargs.pop(k) for k in list(kwargs) if k in vars(SITUATION)}
    given = Situation(**(vars(SITUATION) | situation))
    cfg, choices = plan_training(tmp_path, given, **kwargs)
    return cfg, {choice.name: choice.value for choice in choices}


def test_small_data_from_nothing(tmp_path):
    cfg, chosen = plan(tmp_path)
    assert chosen['recipe'] == 'small data'
    assert chosen['prototypes'] == '512'
    assert cfg.model.head.num_prototypes == cfg.model.neck.num_prototypes == 512
    assert cfg.model.head.centering == 'sinkhorn'
    assert cfg.model.regularizers.contrast.type == 'ibot_mm.InfoNCELoss'
    assert cfg.param_scheduler[0].warmup_share == 0.1
    assert cfg.train_cfg.max_epochs == 316
    assert cfg.optim_wrapper.type == 'ibot_mm.PerParameterClipOptimWrapper'
    assert cfg.train_dataloader.num_workers == 3
    assert cfg.val_dataloader is cfg.val_evaluator is cfg.val_cfg is None


@pytest.mark.parametrize('images, epochs', [(64, 1000), (2_000, 999), (80_000, 158)])
def test_more_images_need_fewer_epochs(tmp_path, images, epochs):
    cfg, _ = plan(tmp_path, images=images)
    assert cfg.train_cfg.max_epochs == epochs


def test_many_images_as_published(tmp_path):
    cfg, chosen = plan(tmp_path, images=1_281_167, device='cuda', bfloat16=True, labeled=True)
    assert chosen['recipe'] == 'as published'
    assert cfg.train_cfg.max_epochs == 800
    assert cfg.model.head.get('centering') is None
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    assert cfg.default_hooks.temperature.warmup_epochs == 30
    assert cfg.train_dataloader.dataset.data_prefix == 'train'
    assert cfg.val_dataloader.dataset.bank.data_root == str(tmp_path)


def test_short_trainings_have_short_warmups(tmp_path):
    cfg, chosen = plan(tmp_path, images=200_000, epochs=20)
    assert cfg.default_hooks.temperature.warmup_epochs == 6
    assert cfg.param_scheduler[0].warmup == 2
    assert chosen['warm-ups, epochs'] == 'learning rate 2, temperature 6'


def test_from_weights(tmp_path):
    cfg, chosen = plan(tmp_path, weights='dino.pth', labeled=True)
    assert chosen['recipe'] == 'continuing'
    assert cfg.model.backbone.init_cfg.checkpoint == 'dino.pth'
    assert cfg.optim_wrapper.constructor == 'ibot_mm.LayerDecayConstructor'
    assert cfg.param_scheduler[0].final_ratio == 0.01
    assert cfg.train_cfg.max_epochs == 100
    assert 'start' in cfg.default_hooks
    unlabeled, _ = plan(tmp_path, weights='dino.pth')
    assert 'start' not in unlabeled.default_hooks  # it compares k-NN


def test_a_model_of_timm(tmp_path):
    cfg, chosen = plan(tmp_path, model='deit_tiny_patch16_224', images=500_000)
    assert cfg.model.backbone.type == 'ibot_mm.TimmVisionTransformer'
    assert cfg.model.neck.in_channels == 192
    assert cfg.train_dataloader.dataset.pipeline.masks.patch_size == 16


def test_a_config_of_ones_own_keeps_its_recipe(tmp_path):
    own = CONFIGS / 'pretrain/ibot_vit_demo.py'
    cfg, chosen = plan(tmp_path, config=own)
    assert (chosen['config'], cfg.train_cfg.max_epochs) == (str(own), 32)
    assert cfg.train_dataloader.dataset.data_root == str(tmp_path)
    assert cfg.default_hooks.temperature.warmup_epochs == 20


@pytest.mark.parametrize('model', MODELS)
def test_every_model_gives_a_config_without_faults(tmp_path, model):
    for kwargs in (dict(), dict(images=500_000)):
        cfg, _ = plan(tmp_path, model=model, **kwargs)
        assert check_config(cfg, with_data=False) == []


def test_unknown_models_and_too_few_images(tmp_path):
    with pytest.raises(ValueError, match='near are .*vits16'):
        check_model('vit_s16')
    with pytest.raises(ValueError, match='has 10 images'):
        plan(tmp_path, images=10)


def test_the_batch_is_halved_until_it_fits():
    tried = []

    def fits(number):
        tried.append(number)
        return number <= 48

    assert halve_until(fits, 256) == 32
    assert tried == [256, 128, 64, 32]
    with pytest.raises(MemoryError, match='with_cp'):
        halve_until(lambda number: False, 64)
