# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of this project and of mmpretrain."""

import pytest
import torch
from mmpretrain.models import BEiTViT, DeiT3, DistilledVisionTransformer, VisionTransformer

from ibot_mm.models import MaskedVisionTransformer

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
SMALL = dict(arch=ARCH, img_size=32, patch_size=8, out_type='raw')


def last(model):
    return lambda images: model(images)[-1]


@pytest.mark.parametrize(
    'network, prefix', [('teacher', 'teacher.backbone.'), ('student', 'backbone.')]
)
def test_pre_training(network, prefix, perturb, load, prefixed, assert_same):
    """A checkpoint of this project holds both networks, of equal names and shapes."""
    networks = {
        'teacher': perturb(MaskedVisionTransformer(**SMALL, mask_token=False)),
        'student': perturb(MaskedVisionTransformer(**SMALL)),
    }
    state = (
        prefixed('teacher.backbone.', networks['teacher'].state_dict())
        | prefixed('backbone.', networks['student'].state_dict())
        | {'neck.layers.0.weight': torch.randn(8, 32), 'teacher.neck.x': torch.randn(1)}
        | {'head.cls_center': torch.zeros(8)}
    )
    checkpoint = dict(meta=dict(epoch=1), state_dict=state)
    model, report = load(checkpoint, mask_token=True, network=network)
    assert_same(model, last(networks[network]), (32, 32))
    assert_same(model, last(networks[network]), (40, 24))  # resized at run time, alike
    assert report.network == f'state_dict.{prefix}'
    assert report.new == (['mask_token'] if network == 'teacher' else [])
    for name, tensor in networks[network].state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name


@pytest.mark.parametrize('kind', ['ViTPyramid', 'WindowedVisionTransformer', 'VisionTransformer'])
def test_every_backbone_takes_it(kind, perturb, load, backbone):
    """Equal grids: the position embedding arrives bit by bit, without [CLS] where there is none."""
    source = perturb(backbone(mask_token=True, final_norm=True))
    model, report = load(source.state_dict(), kind)
    state = source.state_dict()
    windowed = kind == 'WindowedVisionTransformer'
    state['pos_embed'] = state['pos_embed'][:, windowed:]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    left_out = {'a mask token': ['mask_token']}
    if kind != 'VisionTransformer':
        left_out['a final norm'] = ['ln1.weight', 'ln1.bias']
    if windowed:
        left_out['a [CLS] token'] = ['cls_token']
    assert report.left_out == left_out


def test_backbone_of_patches_only_does_without_registers(perturb, load, backbone):
    source = perturb(backbone(num_registers=2))
    model, report = load(source.state_dict(), 'WindowedVisionTransformer')
    assert report.left_out['register tokens'] == ['register_tokens']
    assert torch.equal(model.pos_embed, source.pos_embed[:, 1:])


def test_pyramid_is_new(perturb, load, backbone):
    source = perturb(backbone(arch=dict(num_layers=4)))
    options = dict(
        arch=dict(num_layers=4),
        out_indices=[0, 1, 2, 3],
        with_pyramid=True,
        pyramid_norm_cfg=dict(type='BN'),
    )
    model, report = load(source.state_dict(), 'ViTPyramid', **options)
    of_pyramid = [n for n in model.state_dict() if n.startswith('pyramid.')]
    assert of_pyramid and report.new == of_pyramid
    back, report = load(model.state_dict(), arch=dict(num_layers=4), final_norm=False)
    assert report.left_out == {'feature pyramid': of_pyramid}
    assert torch.equal(back.layers[3].attn.qkv.weight, source.layers[3].attn.qkv.weight)


@pytest.mark.parametrize('size', [(32, 32), (24, 40)], ids=str)
def test_mmpretrain_vit(size, perturb, load, prefixed, assert_same):
    source = perturb(VisionTransformer(**SMALL | dict(img_size=size)))
    state = prefixed('backbone.', source.state_dict())
    state |= {'head.fc.weight': torch.randn(5, 32), 'data_preprocessor.mean': torch.zeros(3)}
    model, report = load(dict(state_dict=state, meta=dict()), img_size=size)
    assert_same(model, last(source), size)
    assert report.left_out['heads and other networks'] == [
        'state_dict.head.*',
        'state_dict.data_preprocessor.*',
    ]


def test_deit_3(perturb, load, assert_same):
    """[CLS] has no entry in its position embedding."""
    source = perturb(DeiT3(**SMALL))
    for layer in source.layers:  # mmpretrain's applies the first norm twice; DeiT III does not
        layer.ln2.load_state_dict(layer.ln1.state_dict())
    model, _ = load(source.state_dict(), layer_scale_init_value=0.1)
    assert_same(model, last(source), (32, 32))


def test_distilled_deit(perturb, load, save):
    source = perturb(DistilledVisionTransformer(**SMALL))
    path = save(source.state_dict())
    with pytest.raises(ValueError, match='distillation token.*take weights without distillation'):
        load(path)
    _, report = load(path, strict=False)
    assert report.unexpected == ['dist_token'] and 'pos_embed' in report.loaded


@pytest.mark.parametrize('size', [(32, 32), (24, 40)], ids=str)
@pytest.mark.parametrize('shared', [False, True])
def test_beit(shared, size, perturb, load, prefixed, assert_same):
    """Pre-trained with one table for all layers, or fine-tuned with one of each."""
    options = dict(img_size=size, use_rel_pos_bias=not shared, use_shared_rel_pos_bias=shared)
    source = perturb(BEiTViT(**SMALL | options, final_norm=True))
    state = prefixed('backbone.', source.state_dict() | {'mask_token': torch.randn(1, 1, 32)})
    state |= prefixed('target_generator.encoder.', source.state_dict())
    model, report = load(dict(state_dict=state), 'BEiTViT', img_size=size)
    assert_same(model, last(source), size)
    assert report.network == 'state_dict.backbone.'
    assert not report.missing and not report.unexpected and not report.new


def test_momentum_encoder_is_not_the_network(perturb, load, prefixed):
    """MoCo v3 has two copies, and the one that is trained is meant."""
    networks = [perturb(VisionTransformer(**SMALL)) for _ in range(2)]
    state = prefixed('backbone.', networks[0].state_dict())
    state |= prefixed('momentum_encoder.module.0.', networks[1].state_dict())
    model, _ = load(dict(state_dict=state))
    assert torch.equal(model.cls_token, networks[0].cls_token)
    model, _ = load(dict(state_dict=state), prefix='momentum_encoder.module.0')
    assert torch.equal(model.cls_token, networks[1].cls_token)


@pytest.mark.parametrize('network', ['teacher', 'student'])
def test_averages(network, perturb, load, prefixed):
    """timm stores the average beside the weights; mmengine swaps them and names the rest ema."""
    weights, average = (perturb(VisionTransformer(**SMALL)) for _ in range(2))
    of_timm = dict(state_dict=weights.state_dict(), state_dict_ema=average.state_dict())
    model, _ = load(of_timm, network=network)
    expected = average if network == 'teacher' else weights
    assert torch.equal(model.cls_token, expected.cls_token)

    of_mmengine = dict(
        state_dict=prefixed('backbone.', average.state_dict()),
        ema_state_dict=prefixed('module.backbone.', weights.state_dict()),
    )
    model, _ = load(of_mmengine, network=network)
    assert torch.equal(model.cls_token, average.cls_token)
