# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights for backbones of timm, through ``init_cfg`` and by themselves."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from ibot_mm.checkpoint import CheckpointError, load_weights, rebuild_backbone
from ibot_mm.models import TimmVisionTransformer

TINY = dict(embed_dim=32, depth=2, num_heads=2, img_size=32, patch_size=8)
NAMES = [
    'vit_small_patch16_224',
    'deit3_small_patch16_224',
    'vit_small_patch16_dinov3',
    'eva02_tiny_patch14_224',
    'beitv2_base_patch16_224',
    'vit_relpos_small_patch16_224',
    'vit_base_patch16_xp_224',
]


def build(name='vit_small_patch16_224', **kwargs):
    return TimmVisionTransformer(name, **(TINY | dict(mask_token=False) | kwargs)).eval()


@pytest.fixture
def source(perturb):
    """A timm model by its name, with weights that no initialization would give."""

    def create(name='vit_small_patch16_224', **kwargs):
        return perturb(timm.create_model(name, **(TINY | dict(num_classes=0) | kwargs)))

    return create


def assert_filled(model, state):
    own = model.timm_model.state_dict()
    torch.testing.assert_close(dict(own), {name: state[name] for name in own}, rtol=0, atol=0)


@pytest.mark.parametrize('name', NAMES)
def test_timms_own_files(name, source, save, tmp_path):
    """With a classifier, as published, and as safetensors."""
    state = source(name, num_classes=5).state_dict()
    save_file(dict(state), tmp_path / 'model.safetensors')
    for path in (save(state), tmp_path / 'model.safetensors'):
        model = build(name)
        report = load_weights(model, path)
        assert_filled(model, state)
        assert sorted(report.left_out['classification head']) == ['head.bias', 'head.weight']
        assert not (report.missing or report.unexpected or report.new)


@pytest.mark.parametrize('network', ['teacher', 'student'])
@pytest.mark.parametrize('name', NAMES)
def test_a_pre_training_of_ones_own(name, network, perturb, save, prefixed):
    student, teacher = perturb(build(name, mask_token=True)), perturb(build(name))
    state = prefixed('backbone.', student.state_dict())
    state |= prefixed('teacher.backbone.', teacher.state_dict())
    state |= {'neck.layers.0.weight': torch.zeros(3, 3)}
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=save(dict(state_dict=state)))
    model = build(name, init_cfg=init_cfg | dict(network=network))
    model.init_weights()
    wanted = student if network == 'student' else teacher
    assert_filled(model, wanted.timm_model.state_dict())
    model.init_weights()  # a Runner does it once more
    assert_filled(model, wanted.timm_model.state_dict())


def test_position_embedding_is_resized_by_timm(source, save):
    state = source().state_dict()
    model = build(img_size=48)
    report = load_weights(model, save(state))
    expected = timm.layers.resample_abs_pos_embed(state['pos_embed'], (6, 6))
    torch.testing.assert_close(model.timm_model.pos_embed.data, expected)
    assert report.resized == {'pos_embed': 'to (1, 37, 32)'}


def test_names_of_the_code_that_a_family_comes_from(perturb, save):
    """Such as those of DINOv2, whose position embedding includes [CLS]."""
    model = perturb(build('vit_small_patch14_reg4_dinov2'))
    state = {k: v for k, v in model.timm_model.state_dict().items() if k != 'reg_token'}
    state['register_tokens'] = model.timm_model.reg_token.data
    state['mask_token'] = torch.zeros(1, 32)
    state['cls_token'] = state['cls_token'] - 0.25
    position = torch.cat([torch.full((1, 1, 32), 0.25), state['pos_embed']], dim=1)
    state['pos_embed'] = position
    filled = build('vit_small_patch14_reg4_dinov2')
    load_weights(filled, save(state))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(filled(images), model(images))


def test_names_of_mmpretrain(backbone, perturb, save):
    source = perturb(backbone())
    model = build(mlp_ratio=2)
    report = load_weights(model, save(source.state_dict()))
    assert 'mmpretrain' in report.format
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), source(images))


def test_names_of_mmpretrain_that_do_not_fit_lead_to_options_of_timm(backbone, save):
    model = build(mlp_ratio=4)
    with pytest.raises(CheckpointError, match='64 in the checkpoint, 128 in.*; give.*model_name'):
        load_weights(model, save(backbone().state_dict()))


def test_mask_token_is_new(source, save):
    model = build(mask_token=True)
    assert load_weights(model, save(source().state_dict())).new == ['mask_token']


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(depth=3), r'lacks blocks\.\*\.norm1\.weight.* give the backbone the model_name'),
        (dict(embed_dim=64), r'lacks cls_token.* settings of timm'),
        (dict(global_pool='avg', fc_norm=True), r'lacks fc_norm.weight.*no place for norm.weight'),
        (dict(name='vit_small_patch14_reg4_dinov2'), r'lacks reg_token.*ls1.gamma'),
    ],
)
def test_what_does_not_fit(kwargs, message, source, save):
    path = save(source().state_dict())
    with pytest.raises(CheckpointError, match=f'(?s){message}'):
        load_weights(build(**kwargs), path)


def test_positions_of_no_square_are_not_resized(source, save):
    path = save(source(img_size=(40, 24)).state_dict())
    load_weights(build(img_size=(40, 24)), path)
    with pytest.raises(CheckpointError, match='timm cannot fit it to VisionTransformer'):
        load_weights(build(), path)


def test_what_fits_is_loaded_where_it_need_not_all(source, save):
    model, state = build(depth=3), source().state_dict()
    report = load_weights(model, save(state), strict=False)
    assert torch.equal(model.timm_model.blocks[1].norm1.weight, state['blocks.1.norm1.weight'])
    assert all(name.startswith('blocks.2.') for name in report.missing)


def test_no_vit(save):
    path = save({'layer1.0.conv1.weight': torch.zeros(3, 3)})
    with pytest.raises(CheckpointError, match='checkpoint_0.pth cannot be used: it holds a ResNet'):
        load_weights(build(), path)


@pytest.mark.parametrize(
    'name',
    [
        'vit_base_patch16_xp_224',
        'vit_large_patch14_xp_224',
        'vit_base_patch16_18x2_224',
        'vit_pwee_patch16_reg1_gap_256',
    ],
)
def test_parallel_branches_are_refused_by_name(name, source, save, backbone):
    """Into our own ViT, where they have no place; a wrapped model of timm takes them."""
    path = save(source(name).state_dict())
    reason = 'parallel branches in each layer.* take ibot_mm.TimmVisionTransformer'
    for refused in (lambda: load_weights(backbone(), path), lambda: rebuild_backbone(path)):
        with pytest.raises(CheckpointError, match=reason):
            refused()


@pytest.mark.parametrize(
    'stored, message',
    [
        (
            dict(act_layer='quick_gelu'),
            'activation.*: quick_gelu in the checkpoint, by config',
        ),
        (dict(num_heads=4), 'attention heads: 4 in the checkpoint, by config.json, 2 in the backb'),
    ],
    ids=str,
)
def test_equal_tensors_of_another_network(stored, message, source, tmp_path):
    """timm's JSON tells what the tensors do not show."""
    model = source(**stored)
    save_file(dict(model.state_dict()), tmp_path / 'model.safetensors')
    told = dict(architecture='vit_small_patch16_224', model_args=TINY | stored)
    (tmp_path / 'config.json').write_text(json.dumps(told))
    with pytest.raises(CheckpointError, match=message):
        load_weights(build(), tmp_path)
    load_weights(build(**stored), tmp_path)


@pytest.mark.parametrize('channels', [1, 4])
def test_kernels_for_rgb_are_inflated(channels, source, save):
    state = source().state_dict()
    model = build(in_chans=channels)
    report = load_weights(model, save(state))
    expected = timm.models.adapt_input_conv(channels, state['patch_embed.proj.weight'])
    torch.testing.assert_close(model.patch_embed.proj.weight.data, expected)
    how = {1: 'their sum', 4: 'repeated in turn and scaled by 3/4'}[channels]
    how = f'from RGB to {channels} channels, {how}, to (32, {channels}, 8, 8)'
    assert report.resized == {'patch_embed.proj.weight': how}
