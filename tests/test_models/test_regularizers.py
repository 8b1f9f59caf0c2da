# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Losses beside the head's, in the algorithm."""

import pytest
import torch

from ibot_mm.functional.gram import gram_loss
from ibot_mm.functional.info_nce import info_nce_loss
from ibot_mm.functional.koleo import koleo_loss
from ibot_mm.models import IBOT, GramLoss, MaskedVisionTransformer
from ibot_mm.models.student import Crops, student_tokens

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
OPTIONS = dict(arch=ARCH, img_size=16, patch_size=4)


@pytest.fixture
def earlier(tmp_path):
    """A checkpoint of an earlier teacher, and that network."""
    torch.manual_seed(3)
    network = MaskedVisionTransformer(**OPTIONS, mask_token=False).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    state = {f'teacher.backbone.{name}': t for name, t in network.state_dict().items()}
    torch.save(dict(state_dict=state), tmp_path / 'earlier.pth')
    return str(tmp_path / 'earlier.pth'), network


def gram(checkpoint, **options):
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=checkpoint)
    backbone = dict(type='ibot_mm.MaskedVisionTransformer', mask_token=False, **OPTIONS)
    return dict(type='ibot_mm.GramLoss', backbone=dict(backbone, init_cfg=init_cfg), **options)


def build(head=dict(), norm_cfg=None, **options):
    torch.manual_seed(0)
    model = IBOT(
        backbone=dict(type='ibot_mm.MaskedVisionTransformer', **OPTIONS),
        neck=dict(
            type='ibot_mm.IBOTNeck', in_channels=16, num_prototypes=8, hidden_channels=12,
            bottleneck_channels=6, norm_cfg=norm_cfg,
        ),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=8, **head),
        **options,
    )  # fmt: skip
    model.init_weights()
    return model.train()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return dict(
        global_crops=torch.randn(4, 2, 3, 16, 16),
        local_crops=torch.randn(4, 1, 3, 8, 8),
        masks=torch.rand(4, 2, 4, 4) < 0.4,
    )


def tokens_of(model, inputs):
    """Student's tokens (G, B, 1 + N, D) of the masked global crops."""
    crops, masks = (inputs[name].transpose(0, 1) for name in ('global_crops', 'masks'))
    tokens = model.backbone(crops.flatten(0, 1), masks.flatten(0, 1))[-1]
    return tokens.unflatten(0, (2, 4))


@pytest.mark.parametrize('norm_cfg', [None, dict(type='BN1d')])
def test_each_is_its_function_and_leaves_the_others_alone(earlier, inputs, norm_cfg):
    path, network = earlier
    plain = build(norm_cfg=norm_cfg)
    model = build(
        norm_cfg=norm_cfg,
        regularizers=dict(
            koleo=dict(type='ibot_mm.KoLeoLoss', weight=0.3),
            anchor=gram(path, weight=1.5, negatives='clip'),
            contrast=dict(type='ibot_mm.InfoNCELoss', weight=0.5, temperature=0.3),
        ),
    )
    missing = model.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing and all(name.startswith('regularizers.anchor.') for name in missing)
    losses, expected = model.loss(inputs), plain.loss(inputs)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value)
    tokens = tokens_of(model, inputs)
    koleo = sum(koleo_loss(view[:, 0]) for view in tokens)
    torch.testing.assert_close(losses['loss_koleo'], 0.3 * koleo)
    contrast = info_nce_loss(tokens[:, :, 0], 0.3)
    torch.testing.assert_close(losses['loss_contrast'], 0.5 * contrast)
    crops = inputs['global_crops'].transpose(0, 1).flatten(0, 1)
    anchor = gram_loss(tokens.flatten(0, 1)[:, 1:], network(crops)[-1][:, 1:], negatives='clip')
    torch.testing.assert_close(losses['loss_anchor'], 1.5 * anchor)

    (losses['loss_koleo'] + losses['loss_anchor']).backward()
    assert model.backbone.cls_token.grad.abs().sum() > 0
    assert all(p.grad is None for p in model.regularizers.parameters())
    assert not model.regularizers['anchor'].backbone.training


def test_koleo_leaves_the_fast_path(inputs):
    model = build(regularizers=dict(koleo=dict(type='ibot_mm.KoLeoLoss', weight=1.0)))
    crops = Crops(
        inputs['global_crops'].flatten(0, 1), torch.tensor([3]), inputs['masks'].flatten(0, 1)
    )
    (tokens,) = student_tokens(model.backbone, [crops])
    assert tokens.shape == (8 + 1, 16)
    koleo = sum(koleo_loss(view[:, 0]) for view in tokens_of(model, inputs))
    torch.testing.assert_close(model.loss(inputs)['loss_koleo'], koleo)


def test_visible_patches_count_too(inputs):
    """Twice the visible weight adds twice the visible part."""
    losses = [
        build(head=dict(visible_weight=weight)).loss(inputs)['loss_patch']
        for weight in (0.0, 0.5, 1.0)
    ]
    assert losses[1] > losses[0]
    torch.testing.assert_close(losses[2] - losses[0], 2 * (losses[1] - losses[0]))


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(backbone=dict(type='ibot_mm.MaskedVisionTransformer')), 'names no checkpoint'),
        (dict(weight=-1.0), 'weight'),
        (dict(negatives='drop'), "got 'drop'"),
    ],
)
def test_bad_settings(earlier, change, message):
    arguments = {k: v for k, v in gram(earlier[0]).items() if k != 'type'}
    with pytest.raises(ValueError, match=message):
        GramLoss(**(arguments | change))
