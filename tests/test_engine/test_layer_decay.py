# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import re
from pathlib import Path

import mmpretrain.models
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn

from ibot_mm.compatibility import enable_config_inheritance
from ibot_mm.engine import WarmupCosine
from ibot_mm.functional.schedules import warmup_cosine
from ibot_mm.models import MaskedVisionTransformer, ViTPyramid, WindowedVisionTransformer

CONFIGS = Path(__file__).parents[2] / 'configs/_base_/models'
TINY = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
VIT = dict(type='ibot_mm.ViTPyramid', arch=TINY, out_indices=[0, 1, 2, 3], img_size=64)
EMBEDDING = {
    'backbone.cls_token',
    'backbone.pos_embed',
    'backbone.register_tokens',
    'backbone.patch_embed.projection.weight',
    'backbone.patch_embed.projection.bias',
}


def build_optimizer(model, paramwise_cfg=dict(layer_decay_rate=0.5), **optimizer):
    cfg = dict(
        constructor='ibot_mm.LayerDecayConstructor',
        paramwise_cfg=paramwise_cfg,
        optimizer=optimizer or dict(type='AdamW', lr=0.1, weight_decay=0.05),
    )
    return build_optim_wrapper(model, cfg).optimizer


def settings(model, optimizer):
    """Name -> (number of its group, learning rate, weight decay)."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (number, group['lr'], group['weight_decay'])
        for number, group in enumerate(optimizer.param_groups)
        for parameter in group['params']
    }


def expected_settings(model, num_layers=4):
    """The published rule, for parameters that are trained."""
    expected = {}
    for name, parameter in model.named_parameters():
        layer = re.match(r'backbone\.layers\.(\d+)\.', name)
        depth = int(layer[1]) + 1 if layer else 0 if name in EMBEDDING else num_layers + 1
        decayed = parameter.ndim > 1
        if parameter.requires_grad:
            rate = 0.1 * 0.5 ** (num_layers + 1 - depth)
            number = 2 * (num_layers + 1 - depth) + (not decayed)  # the deepest first
            expected[name] = (number, pytest.approx(rate), 0.05 * decayed)
    return expected


def mask_rcnn(**backbone):
    cfg = Config.fromfile(CONFIGS / 'mask_rcnn_vit.py').model
    cfg.backbone = VIT | backbone
    cfg.neck.in_channels = [16] * 4
    cfg.roi_head.bbox_head.fc_out_channels = 16
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(cfg)


def upernet(**backbone):
    enable_config_inheritance()
    cfg = Config.fromfile(CONFIGS / 'upernet_vit.py').model
    cfg.backbone = VIT | backbone
    cfg.decode_head.update(in_channels=[16] * 4, channels=8)
    cfg.auxiliary_head.update(in_channels=16, channels=8)
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MMSEG_MODELS.build(cfg)


@pytest.mark.parametrize('build_model', [mask_rcnn, upernet])
@pytest.mark.parametrize(
    'backbone',
    [
        dict(num_registers=2, final_norm=True, layer_scale_init_value=0.1),
        dict(patch_size=8, rotary=True),
        dict(type='mmpretrain.VisionTransformer', out_type='featmap'),
    ],
    ids=['registers', 'rotary', 'stock'],
)
def test_group_rate_and_decay_of_every_parameter(build_model, backbone):
    model = build_model(**backbone)
    optimizer = build_optimizer(model)
    assert settings(model, optimizer) == expected_settings(model)
    assert len(optimizer.param_groups) == 2 * (4 + 2)


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(2, 2)


def test_a_few_by_hand():
    vit = ViTPyramid(arch=TINY, out_indices=[0, 1, 2, 3], img_size=64, final_norm=True)
    found = settings(model := Model(vit), build_optimizer(model))
    for name, number, rate, decay in [
        ('backbone.cls_token', 10, 0.1 / 32, 0.05),
        ('backbone.pos_embed', 10, 0.1 / 32, 0.05),
        ('backbone.patch_embed.projection.bias', 11, 0.1 / 32, 0.0),
        ('backbone.layers.0.attn.qkv.weight', 8, 0.1 / 16, 0.05),
        ('backbone.layers.3.ln1.weight', 3, 0.1 / 2, 0.0),
        ('backbone.ln1.weight', 1, 0.1, 0.0),
        ('backbone.pyramid.levels.0.1.bias', 1, 0.1, 0.0),
        ('backbone.pyramid.levels.1.weight', 0, 0.1, 0.05),
        ('head.weight', 0, 0.1, 0.05),
    ]:
        assert found[name] == (number, pytest.approx(rate), decay), name


def test_frozen_parameters_are_left_out():
    vit = ViTPyramid(arch=TINY, out_indices=[0, 1, 2, 3], img_size=64, frozen_stages=2)
    found = settings(model := Model(vit), build_optimizer(model))
    assert found == expected_settings(model)
    assert not {name for name in found if 'embed' in name or 'backbone.layers.1.' in name}


def test_wrapped_models_and_other_backbones():
    vit = WindowedVisionTransformer(arch=TINY, img_size=64)
    model = Model(vit)
    wrapped = nn.DataParallel(model)
    assert settings(model, build_optimizer(wrapped)) == expected_settings(model)

    classifier = mmpretrain.models.ImageClassifier(
        dict(type='SwinTransformer', arch='tiny', img_size=64),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=768),
    )
    found = settings(classifier, build_optimizer(classifier))
    for name in classifier.state_dict().keys() & found.keys():
        depth, num_depths = classifier.get_layer_depth(name)
        assert found[name][1] == pytest.approx(0.1 * 0.5 ** (num_depths - 1 - depth)), name
    assert found['head.fc.weight'][1] == 0.1


def test_a_step_moves_each_parameter_by_its_rate():
    model = Model(ViTPyramid(arch=TINY, out_indices=[0, 1, 2, 3], img_size=64))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, type='SGD', lr=1.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    for name, (_, rate, _) in settings(model, optimizer).items():
        moved = before[name] - model.get_parameter(name)
        torch.testing.assert_close(moved, torch.full_like(moved, rate))


@pytest.mark.parametrize(
    'paramwise_cfg, optimizer, message',
    [
        (None, {}, r'paramwise_cfg=dict\(layer_decay_rate=\.\.\.\)'),
        (dict(layer_decay_rate=1.5), {}, 'over 0 and up to 1'),
        (dict(layer_decay_rate=0), {}, 'over 0 and up to 1'),
        (
            dict(layer_decay_rate=0.5, norm_decay_mult=0),
            {},
            'nothing else but undecayed.*got.*norm_decay_mult',
        ),
        (dict(decay_rate=0.5), {}, r'layer_decay_rate=.*got.*decay_rate'),
        (dict(layer_decay_rate=0.5), dict(type='AdamW'), 'optimizer=dict.lr='),
    ],
)
def test_bad_settings(paramwise_cfg, optimizer, message):
    model = Model(WindowedVisionTransformer(arch=TINY, img_size=64))
    with pytest.raises(ValueError, match=message):
        build_optimizer(model, paramwise_cfg, **optimizer)


@pytest.mark.parametrize('model', [Model(nn.Linear(2, 2)), nn.Linear(2, 2)])
def test_models_without_depth(model):
    with pytest.raises(ValueError, match='backbone with get_layer_depth'):
        build_optimizer(model)


def test_rates_and_decays_through_the_schedules():
    """Each group follows its own peak; what starts without decay keeps none."""
    model = Model(MaskedVisionTransformer(arch=TINY, img_size=32))
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='ibot_mm.LayerDecayConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.5),
            optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.04),
        ),
    )
    start = settings(model, wrapper.optimizer)
    rate, decay = (
        WarmupCosine(wrapper, *args, by_epoch=False, end=40)
        for args in (('lr', None, 0.01, 8), ('weight_decay', None, 10.0))
    )
    for step in range(40):
        expected_rate = warmup_cosine(1.0, 0.01, step, 40, 8)
        expected_decay = warmup_cosine(1.0, 10.0, step, 40)
        for name, (_, lr, weight_decay) in settings(model, wrapper.optimizer).items():
            assert lr == pytest.approx(start[name][1] * expected_rate), (step, name)
            assert weight_decay == pytest.approx(start[name][2] * expected_decay), (step, name)
        assert wrapper.get_lr()['lr'][0] == pytest.approx(0.1 * expected_rate)  # what the log says
        wrapper.optimizer.step()
        rate.step()
        decay.step()
    assert {0.0, 0.04} == {weight_decay for _, _, weight_decay in start.values()}
