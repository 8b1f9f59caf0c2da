# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which tokens make a feature, and where they are stored."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from ibot_mm.evaluation import (
    NEIGHBORS,
    FeatureExtractor,
    FeatureLayout,
    FeatureSettings,
    cover,
    linear_settings,
)
from ibot_mm.functional.pooling import pool_tokens

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)


@pytest.fixture
def backbone():
    torch.manual_seed(0)
    config = dict(type='ibot_mm.MaskedVisionTransformer', arch=ARCH, img_size=16, patch_size=8)
    model = MODELS.build(config)
    model.init_weights()
    return model


@pytest.mark.parametrize(
    'network, expected',
    [
        (dict(embed_dims=384, num_layers=12), FeatureSettings(4, 'cls')),
        (dict(embed_dims=768, num_layers=12), FeatureSettings(1, 'cls_patch_mean')),
        (dict(embed_dims=1024, num_layers=24), FeatureSettings(1, 'cls_patch_mean')),
        (dict(embed_dims=96, depths=[2, 2, 6, 2], stages=[]), FeatureSettings(4, 'cls')),
        (dict(embed_dims=16, num_layers=3), FeatureSettings(3, 'cls')),
    ],
    ids=['ViT-S', 'ViT-B', 'ViT-L', 'Swin-T', 'fewer than 4 layers'],
)
def test_linear_probing_reads_what_the_paper_reads(network, expected):
    assert linear_settings(SimpleNamespace(**network)) == expected


@pytest.mark.parametrize(
    'settings',
    [NEIGHBORS, FeatureSettings(2), FeatureSettings(3), FeatureSettings(2, 'cls_patch_mean')],
)
def test_columns_of_the_cover_are_the_feature(backbone, settings):
    images = torch.randn(2, 3, 16, 16)
    whole = FeatureExtractor(backbone, cover(NEIGHBORS, settings, FeatureSettings(3, 'patch_mean')))
    layout = whole.layout(images)
    stored = whole(images)
    assert stored.shape == (2, layout.width)
    expected = FeatureExtractor(backbone, settings)(images)
    assert torch.equal(stored[:, layout.columns(settings)], expected)


def test_cover_is_no_larger_than_it_must_be():
    assert cover(NEIGHBORS, FeatureSettings(4)) == FeatureSettings(4, 'cls')
    assert cover(NEIGHBORS, FeatureSettings(1, 'cls_patch_mean')).pooling == 'cls_patch_mean'
    with pytest.raises(ValueError, match='with and without final norm'):
        cover(NEIGHBORS, FeatureSettings(final_norm=False))


@pytest.mark.parametrize(
    'settings', [FeatureSettings(3), FeatureSettings(1, 'patch_mean')], ids=['blocks', 'mean']
)
def test_what_was_not_stored_is_refused(settings):
    with pytest.raises(ValueError, match='not among the stored features: .* 2 blocks and no mean'):
        FeatureLayout((4, 4)).columns(settings)


def test_extraction_is_frozen(backbone):
    extractor = FeatureExtractor(backbone.train())
    assert not backbone.training
    assert not extractor(torch.randn(1, 3, 16, 16)).requires_grad
    tokens = extractor.tokens(torch.randn(1, 3, 16, 16))
    assert pool_tokens(tokens).shape == (1, 16)


def test_backbone_without_last_blocks_is_refused():
    with pytest.raises(ValueError, match='Linear does not have last_blocks'):
        FeatureExtractor(nn.Linear(2, 2))


@pytest.mark.parametrize(
    'changes, message',
    [(dict(num_blocks=0), 'at least 1, got 0'), (dict(pooling='max'), "got 'max'")],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        FeatureSettings(**changes)
