# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Heads, necks, losses and mixing of classifiers."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models.losses import LabelSmoothLoss
from mmpretrain.structures import DataSample

from ibot_mm.functional.linear_sweep import LEARNING_RATES
from ibot_mm.models import (
    FrozenFeatures,
    IBOTNeck,
    LinearSweepHead,
    MaskedVisionTransformer,
    ProjectionLayers,
    ReversedCutMix,
    ReversedMixup,
    SmoothedCrossEntropy,
)

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
TINY = dict(type='ibot_mm.MaskedVisionTransformer', arch=ARCH, img_size=16, patch_size=4)


def label(*labels):
    return [DataSample().set_gt_label(value) for value in labels]


def test_the_sweep_is_the_published_one():
    digits = [k * 10.0**power for power in range(-4, 1) for k in range(1, 10)]
    assert LEARNING_RATES == pytest.approx(digits, rel=1e-12)
    assert len(LinearSweepHead(5, 4).sweep) == 45
    wide = LinearSweepHead(5, 4, weight_decays=(0.0, 1e-6), optimizers=('sgd', 'lars'))
    assert len(wide.sweep) == 180


def test_classifiers_of_a_sweep_are_separate_linear_layers():
    torch.manual_seed(0)
    head = LinearSweepHead(5, 4, learning_rates=(0.1, 1.0, 2.0)).double()
    features, labels = torch.randn(6, 4).double(), [0, 1, 2, 3, 4, 0]
    head.loss((features,), label(*labels))['loss'].backward()
    for index in range(3):
        weight = head.weight[index].detach().clone().requires_grad_()
        F.cross_entropy(features @ weight.T, torch.tensor(labels)).backward()
        torch.testing.assert_close(head.weight.grad[index], weight.grad)


def test_the_best_classifier_speaks_once_it_is_known():
    head, features = LinearSweepHead(3, 4, learning_rates=(0.1, 1.0)), torch.randn(2, 4)
    assert head(features).shape == (2, 2, 3)
    assert 'pred_score' not in head.predict((features,), label(0, 1))[0]
    head.best_head.fill_(1)
    torch.testing.assert_close(head(features), head.scores(features)[:, 1])
    predicted = head.predict((features,), label(0, 1))
    torch.testing.assert_close(predicted[0].pred_score, head(features)[0].softmax(0))


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(num_classes=1), 'at least 2 classes'),
        (dict(learning_rates=()), 'learning_rates must be'),
        (dict(learning_rates=(0.0,)), 'learning_rates must be'),
        (dict(weight_decays=(-1.0,)), 'weight_decays must be'),
        (dict(optimizers=('adam',)), 'optimizers must be of'),
    ],
)
def test_sweep_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        LinearSweepHead(**dict(num_classes=3, in_channels=4) | options)


@pytest.mark.parametrize(
    'backbone, options, channels',
    [
        (TINY, dict(num_blocks=2), 32),
        (TINY, dict(pooling='cls_patch_mean'), 32),
        (
            dict(type='ibot_mm.MaskedSwinTransformer', img_size=32, window_size=2, patch_size=2,
                 arch=dict(embed_dims=8, depths=[1, 1, 1, 2], num_heads=[1, 1, 1, 1])),
            dict(num_blocks=3),
            32 + 64 + 64,
        ),
        (
            dict(type='ibot_mm.TimmVisionTransformer', model_name='vit_tiny_patch16_224', depth=2,
                 img_size=32),
            dict(num_blocks=2),
            2 * 192,
        ),
    ],
    ids=['vit', 'vit with patches', 'swin', 'timm'],
)  # fmt: skip
def test_features_of_any_backbone_are_frozen(backbone, options, channels):
    module = FrozenFeatures(backbone, **options).train()
    assert not any(part.training for part in module.backbone.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    (features,) = module(torch.randn(2, 3, 32, 32))
    assert features.shape == (2, channels) and not features.requires_grad


def test_features_need_a_backbone_of_ours():
    with pytest.raises(ValueError, match='does not have last_blocks'):
        FrozenFeatures(torch.nn.Linear(1, 1))


def test_stock_classifier_takes_backbone_and_head():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(type='ibot_mm.FrozenFeatures', backbone=TINY, num_blocks=2),
                head=dict(type='ibot_mm.LinearSweepHead', num_classes=3, in_channels=32),
            )
        )
    images = torch.randn(2, 3, 16, 16)
    model.loss(images, label(0, 1))['loss'].backward()
    assert model.head.weight.grad is not None
    assert model.predict(images, label(0, 1))[1].sweep_ranked.shape == (45, 3)


@pytest.mark.parametrize('augment', [ReversedMixup, ReversedCutMix])
def test_partners_are_the_batch_in_reverse_order(augment):
    images = torch.arange(4.0).double()[:, None, None, None].expand(4, 3, 8, 8).contiguous()
    mixed, scores = augment(1.0)(images, torch.eye(4).double())
    share = scores[0, 0].item()
    expected = share * torch.eye(4).double() + (1 - share) * torch.eye(4).double().flip(0)
    torch.testing.assert_close(scores, expected)
    assert mixed.mean(dim=(1, 2, 3)).tolist() == pytest.approx(
        [share * i + (1 - share) * (3 - i) for i in range(4)]
    )
    assert images[0].max() == 0  # the batch itself is left alone


def test_smoothing_is_that_of_torch_where_mmpretrain_rounds():
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 5).double(), torch.tensor([0, 1, 2, 3, 4, 0])
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    loss = SmoothedCrossEntropy(0.1)
    scores = F.one_hot(labels, 5).double()
    assert loss(logits, labels).item() == pytest.approx(expected.item(), rel=1e-14)
    assert loss(logits, scores).item() == pytest.approx(expected.item(), rel=1e-14)
    stock = LabelSmoothLoss(0.1, num_classes=5)(logits, labels).item()
    assert 1e-12 < abs(stock - expected.item()) < 1e-6
    with pytest.raises(ValueError, match='smoothing must be'):
        SmoothedCrossEntropy(1.0)


@pytest.mark.parametrize('kept, channels', [(1, 12), (2, 12), (3, 7)])
def test_first_layers_of_a_projection_head(kept, channels):
    neck = IBOTNeck(6, num_prototypes=7, hidden_channels=12, bottleneck_channels=5)
    tokens = torch.randn(2, 6)
    whole = neck(tokens[:, None])[0]
    hidden = neck.act(neck.layers[0](tokens))
    expected = [hidden, neck.act(neck.layers[1](hidden)), whole][kept - 1]
    layers = ProjectionLayers(neck, num_layers=kept)
    (features,) = layers((tokens,))
    assert features.shape == (2, channels) == (2, layers.out_channels)
    torch.testing.assert_close(features, expected)


def test_projection_layers_must_be_there():
    with pytest.raises(ValueError, match='between 1 and 3'):
        ProjectionLayers(IBOTNeck(6, num_prototypes=7, hidden_channels=12), num_layers=4)


def test_a_vit_gives_its_cls_token_to_a_stock_head():
    vit = MaskedVisionTransformer(
        arch=ARCH, img_size=16, patch_size=4, mask_token=False, out_type='cls_token'
    )
    assert vit(torch.randn(2, 3, 16, 16))[-1].shape == (2, 16)
