# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every config resolves, builds, and says what its recipe says."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import HOOKS, METRICS, MODELS, TRANSFORMS, init_default_scope

CONFIGS = Path(__file__).parents[1] / 'configs'
PRETRAIN = sorted((CONFIGS / 'pretrain').glob('*.py'))

# epochs, lr at 1024 images, min lr, warm-up of the temperature, frozen epochs, clip, drop path,
# fixed gain, global scale, local scale: the published recipes.
RECIPES = {
    'ibot_vits16': (800, 2e-3, 1e-6, 30, 1, 3.0, 0.1, False, (0.25, 1.0), (0.05, 0.25)),
    'ibot_vitb16': (400, 3e-3, 2e-6, 50, 3, 0.3, 0.1, True, (0.32, 1.0), (0.05, 0.32)),
    'ibot_vitb16_rand': (400, 3e-3, 2e-6, 50, 3, 0.3, 0.1, True, (0.32, 1.0), (0.05, 0.32)),
    'ibot_vitl16': (250, 3e-3, 2e-6, 50, 3, 0.3, 0.4, True, (0.32, 1.0), (0.05, 0.32)),
    'ibot_vitl16_rand': (250, 3e-3, 2e-6, 50, 3, 0.3, 0.4, True, (0.32, 1.0), (0.05, 0.32)),
}


@pytest.mark.parametrize('path', PRETRAIN, ids=lambda path: path.stem)
def test_everything_named_in_a_config_exists(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        assert MODELS.build(cfg.model).neck.num_prototypes == cfg.model.head.num_prototypes
    for transform in cfg.train_dataloader.dataset.pipeline:
        TRANSFORMS.build(transform)
    for hook in cfg.default_hooks.values():
        with HOOKS.switch_scope_and_registry(hook.get('_scope_')) as registry:
            assert registry.get(hook.type), hook.type
        if hook.type.startswith('ibot_mm.'):
            HOOKS.build(hook)
    METRICS.build(cfg.val_evaluator)


@pytest.mark.parametrize('name, recipe', RECIPES.items())
def test_recipes(name, recipe):
    cfg = Config.fromfile(CONFIGS / f'pretrain/{name}.py')
    crops = cfg.train_dataloader.dataset.pipeline[2]
    assert (
        cfg.train_cfg.max_epochs,
        pytest.approx(cfg.optim_wrapper.optimizer.lr),
        cfg.param_scheduler[0].final,
        cfg.default_hooks.temperature.warmup_epochs,
        cfg.default_hooks.prototypes.epochs,
        cfg.optim_wrapper.clip_grad.max_norm,
        cfg.model.backbone.drop_path_rate,
        cfg.model.neck.fixed_gain,
        tuple(crops.global_scale),
        tuple(crops.local_scale),
    ) == recipe
    masks = cfg.train_dataloader.dataset.pipeline[4]
    expected = ((0.7, 0.05), 'random') if 'rand' in name else ((0.3, 0.2), 'block')
    assert (tuple(masks.ratio[1]), masks.shape) == expected
    assert tuple(masks.ratio[0]) == (0.0, 0.0)
    # What all share.
    assert (crops.local_number, crops.local_size) == (10, 96)
    assert cfg.model.neck.num_prototypes == 8192 and cfg.model.neck.shared
    assert cfg.auto_scale_lr == dict(base_batch_size=1024, enable=True)
    assert 1024 % cfg.train_dataloader.batch_size == 0
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.04
    assert cfg.param_scheduler[1].final_ratio == 10
    assert cfg.param_scheduler[0].warmup == 10
    assert cfg.default_hooks.teacher.momentum == 0.996
