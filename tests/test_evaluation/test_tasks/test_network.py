# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What tasks read of networks of all kinds."""

from types import SimpleNamespace

import pytest
import torch

from ibot_mm.evaluation.tasks.network import grid_of, stride_of, token_maps
from ibot_mm.frozen_network import FrozenNetwork
from ibot_mm.models import MaskedSwinTransformer, MaskedVisionTransformer


def vit():
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)
    return MaskedVisionTransformer(arch=arch, img_size=32, patch_size=8, num_registers=2)


def swin():
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2])
    return MaskedSwinTransformer(arch=arch, img_size=64, patch_size=4, window_size=4)


def timm_vit():
    pytest.importorskip('timm')
    from ibot_mm.models import TimmVisionTransformer

    options = dict(img_size=32, patch_size=8, embed_dim=16, depth=1, num_heads=2)
    return TimmVisionTransformer('vit_tiny_patch16_224', **options)


@pytest.mark.parametrize('build', [vit, swin, timm_vit])
def test_token_maps_of_images_that_are_not_square(build):
    backbone = build().eval()
    assert stride_of(backbone) == 8
    images = torch.randn(2, 3, 32, 64)
    maps = token_maps(FrozenNetwork(backbone, 'tiny'))(images)
    assert maps.shape == (2, 4, 8, 16)
    tokens = backbone.last_blocks(images, 1)[0][:, 1:]
    torch.testing.assert_close(maps[:, 1, 0], tokens[:, 8])  # row by row


def test_stride_of_rectangular_grids():
    embedding = SimpleNamespace(patch_size=(14, 14))
    assert stride_of(SimpleNamespace(patch_embed=embedding)) == 14
    assert grid_of(6, 20, 30) == (2, 3)
    with pytest.raises(ValueError, match='7 tokens are not a grid'):
        grid_of(7, 20, 30)
