# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images of other channels than a network takes are one error that names both numbers."""

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope

from ibot_mm.models import (
    MaskedSwinTransformer,
    MaskedVisionTransformer,
    TimmVisionTransformer,
    ViTPyramid,
)

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
BACKBONES = dict(
    vit=lambda n: MaskedVisionTransformer(ARCH, img_size=16, patch_size=8, in_channels=n),
    pyramid=lambda n: ViTPyramid(
        ARCH, img_size=16, patch_size=8, in_channels=n, out_indices=[0, 1], with_pyramid=False
    ),
    swin=lambda n: MaskedSwinTransformer(
        dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]), img_size=32, in_channels=n
    ),
    timm=lambda n: TimmVisionTransformer('vit_tiny_patch16_224', img_size=32, in_chans=n, depth=1),
)


@pytest.mark.parametrize('wanted, given', [(3, 1), (3, 4), (6, 3), (1, 3)])
@pytest.mark.parametrize('name', BACKBONES)
def test_backbones(name, wanted, given):
    backbone = BACKBONES[name](wanted).eval()
    backbone(torch.rand(1, wanted, 32, 32))
    message = (
        f'Images have {given} channels, and the backbone takes {wanted}: set in_channels={given} .*'
        rf'LoadImage\(channels={wanted}\)'
    )
    with pytest.raises(ValueError, match=message):
        backbone(torch.rand(1, given, 32, 32))


@pytest.mark.parametrize(
    'normalized, crops',
    [
        (True, ('global_crops', 'local_crops')),
        (False, ('global_crops',)),
        (False, ('local_crops',)),
    ],
)
def test_a_training(tiny_config, normalized, crops):
    """By the preprocessor, which knows mean and deviation, or else by the student."""
    cfg = tiny_config.model
    cfg.backbone.in_channels = 6
    cfg.data_preprocessor = dict(type='ibot_mm.MultiCropPreprocessor')
    if normalized:
        cfg.data_preprocessor.update(mean=[127.5] * 6, std=[63.75] * 6)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(cfg)
    sizes = dict(global_crops=16, local_crops=8)
    inputs = {
        name: torch.zeros(1, 2, 3 if name in crops else 6, size, size, dtype=torch.uint8)
        for name, size in sizes.items()
    }
    inputs['masks'] = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    told = 'mean and std are of 6' if normalized else 'and the backbone takes 6'
    with pytest.raises(ValueError, match=f'mages have 3 channels, .*{told}'):
        data = model.data_preprocessor(dict(inputs=inputs, data_samples=[]), training=True)
        model(**data, mode='loss')
