# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patch embeddings for images of other channels than those of the pre-training."""

import pytest
import torch

from ibot_mm.checkpoint import CheckpointError, load_weights
from ibot_mm.checkpoint.channels import inflate_kernel
from ibot_mm.checkpoint.pretrained import Pretrained
from ibot_mm.models import MaskedSwinTransformer, TimmVisionTransformer

WAYS = {  # which channel of RGB each of six starts from, or None for the mean
    'repeat': [0, 1, 2, 0, 1, 2],
    'mean': [None] * 6,
    'list': [2, 1, 0, None, None, 0],
}
SWIN = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2])
PATCHES = 'patch_embed.projection.weight'


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('kind', ['MaskedVisionTransformer', 'ViTPyramid', 'Swin', 'timm'])
def test_every_backbone_is_inflated(way, kind, backbone, perturb, tmp_path):
    def build(channels):
        if kind == 'Swin':
            return MaskedSwinTransformer(SWIN, img_size=32, window_size=4, in_channels=channels)
        if kind == 'timm':
            small = dict(img_size=32, patch_size=8, depth=1, embed_dim=24, in_chans=channels)
            return TimmVisionTransformer('vit_tiny_patch16_224', **small)
        return backbone(kind, in_channels=channels)

    source, model = perturb(build(3)), build(6)
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    inflate = WAYS['list'] if way == 'list' else way
    report = load_weights(model, tmp_path / 'weights.pth', inflate=inflate)
    assert 'from RGB to 6 channels' in str(report) and 'scaled by 3/6' in str(report)
    name = 'timm_model.patch_embed.proj.weight' if kind == 'timm' else PATCHES
    kernel, inflated = (network.state_dict()[name] for network in (source, model))
    for channel, number in enumerate(WAYS[way]):
        start = kernel.mean(1) if number is None else kernel[:, number]
        torch.testing.assert_close(inflated[:, channel], start / 2)
    if way != 'list':  # whose kernels differ in their sum
        gray = torch.randn(2, 1, 32, 32)
        with torch.no_grad():
            expected = source.eval()(gray.expand(-1, 3, -1, -1))[-1]
            got = model.eval()(gray.expand(-1, 6, -1, -1))[-1]
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('inflate', ['repeat', 'mean', [None]])
def test_one_channel_gets_the_sum(inflate):
    kernel = torch.randn(5, 3, 4, 4)
    inflated, words = inflate_kernel(kernel, 1, inflate)
    torch.testing.assert_close(inflated, kernel.sum(1, keepdim=True))
    assert words.startswith('from RGB to 1 channels')


def test_equal_channels_are_left_alone_unless_listed():
    kernel = torch.randn(5, 3, 4, 4)
    for inflate in ('repeat', 'mean'):
        same, words = inflate_kernel(kernel, 3, inflate)
        assert same is kernel and words == ''
    turned, words = inflate_kernel(kernel, 3, [2, 1, 0])
    assert torch.equal(turned, kernel.flip(1)) and words == 'from RGB to 3 channels, from 2, 1, 0'


def test_from_one_sensor_to_another(backbone, tmp_path):
    """Only what is said: twelve channels in turn would be nonsense."""
    source, model = backbone(in_channels=12), backbone(in_channels=4)
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match="channels of images: 12 .* 4 .*inflate='mean'"):
        load_weights(model, tmp_path / 'weights.pth')
    load_weights(model, tmp_path / 'weights.pth', inflate=[1, 2, 3, 7])
    expected = source.state_dict()[PATCHES][:, [1, 2, 3, 7]] * 3
    torch.testing.assert_close(model.state_dict()[PATCHES], expected)


def test_by_init_cfg(backbone, tmp_path):
    source = backbone()
    torch.save(source.state_dict(), tmp_path / 'weights.pth')
    init_cfg = dict(
        type='ibot_mm.Pretrained',
        checkpoint=str(tmp_path / 'weights.pth'),
        inflate=[2, 1, 0, None],
    )
    model = backbone(in_channels=4, init_cfg=init_cfg)
    model.init_weights()
    kernel = source.state_dict()[PATCHES]
    expected = torch.cat([kernel.flip(1), kernel.mean(1, keepdim=True)], 1) * 3 / 4
    torch.testing.assert_close(model.state_dict()[PATCHES], expected)


@pytest.mark.parametrize('inflate', [[0, 1], [0, 1, 2, 3], [0, 1, 2, -1]])
def test_lists_that_do_not_fit(inflate, backbone, tmp_path):
    torch.save(backbone().state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match='for each of 4 channels .* one of the 3'):
        load_weights(backbone(in_channels=4), tmp_path / 'weights.pth', inflate=inflate)


@pytest.mark.parametrize('inflate', ['sum', None, [0.5], ['red'], 3])
def test_unknown_ways(inflate):
    with pytest.raises(ValueError, match="'repeat', 'mean' or a list"):
        Pretrained('weights.pth', inflate=inflate)
