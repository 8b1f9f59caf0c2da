# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What the tools of other packages say around our backbones."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
VIT = dict(arch=ARCH, img_size=16, patch_size=4)


def detector(backbone: dict) -> nn.Module:
    model = nn.Module()
    model.backbone = MODELS.build(backbone)
    return model


@pytest.mark.parametrize('paramwise_cfg', [dict(num_layers=2, decay_rate=0.7), dict()], ids=str)
@pytest.mark.parametrize('scope', ['mmdet', 'mmseg'])
def test_layer_decay_of_other_packages_says_what_to_use(scope, paramwise_cfg):
    pytest.importorskip(scope)
    constructor = f'{scope}.LearningRateDecayOptimizerConstructor'
    cfg = dict(optimizer=dict(type='AdamW', lr=1e-3), constructor=constructor)
    cfg['paramwise_cfg'] = paramwise_cfg or dict(decay_rate=0.7)  # without the number of layers
    ours = detector(dict(type='ibot_mm.ViTPyramid', **VIT, out_indices=[0, 1], with_pyramid=False))
    with DefaultScope.overwrite_default_scope(scope):
        with pytest.raises(ValueError, match=f'{scope} does not know.*ibot_mm.LayerDecayConstruct'):
            build_optim_wrapper(ours, cfg)
        with pytest.raises((NotImplementedError, TypeError)):  # which we know nothing about
            build_optim_wrapper(detector(dict(type='mmpretrain.ResNet', depth=18)), cfg)


@pytest.mark.parametrize('out_type', ['raw', 'cls_token'])
@pytest.mark.parametrize('head', ['LinearClsHead', 'VisionTransformerClsHead'])
def test_the_head_of_a_classifier_says_that_it_got_all_tokens(head, out_type):
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='ibot_mm.MaskedVisionTransformer', **VIT, out_type=out_type),
            head=dict(type=f'mmpretrain.{head}', num_classes=3, in_channels=16),
        )
    )
    samples = [DataSample().set_gt_label(label) for label in (0, 2)]
    images = torch.randn(2, 3, 16, 16)
    if out_type == 'raw':
        with pytest.raises(ValueError, match=f'{head} got .*out_type="cls_token"'):
            model.loss(images, samples)
    else:
        assert model.loss(images, samples)['loss'].isfinite()
