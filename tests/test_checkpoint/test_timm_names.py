# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of timm and of published code: the same tokens here as there."""

import argparse
from functools import partial

import pytest
import timm
import torch

from ibot_mm.checkpoint import Checkpoint, CheckpointError, rebuild_backbone

SMALL = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2)
SIZES = pytest.mark.parametrize('size', [(32, 32), (24, 40)], ids=str)


def vit(size, **kwargs):
    kwargs = dict(img_size=size, num_classes=5) | SMALL | kwargs
    return timm.models.VisionTransformer(**kwargs)


def without_registers(model):
    """Tokens as this project's backbones give them."""

    def tokens(images):
        everything = model.forward_features(images)
        registers = getattr(model, 'num_reg_tokens', model.num_prefix_tokens - 1)
        return torch.cat([everything[:, :1], everything[:, 1 + registers :]], dim=1)

    return tokens


@SIZES
@pytest.mark.parametrize(
    'theirs, ours',
    [
        (dict(), dict()),
        (dict(qkv_bias=False), dict()),
        (dict(init_values=0.5), dict(layer_scale_init_value=0.1)),
        (dict(no_embed_class=True), dict()),  # DeiT III
        (dict(pre_norm=True), dict(pre_norm=True, assume=dict(activation='gelu'))),  # CLIP
        (dict(reg_tokens=3), dict(num_registers=3)),
        (dict(reg_tokens=3, no_embed_class=True), dict(num_registers=3)),
        (dict(final_norm=False), dict(final_norm=False)),
    ],
    ids=str,
)
def test_timm_vit(size, theirs, ours, perturb, load, assert_same):
    source = perturb(vit(size, **theirs))
    model, report = load(source.state_dict(), img_size=size, **ours)
    assert_same(model, without_registers(source), size)
    assert report.left_out == {'classification head': ['head.weight', 'head.bias']}
    assert not report.missing and not report.unexpected and not report.resized


def test_timm_swiglu(perturb, load, assert_same):
    source = perturb(
        vit(32, mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio=4)
    )
    hidden = source.blocks[0].mlp.fc2.in_features
    model, _ = load(
        source.state_dict(),
        arch=dict(feedforward_channels=hidden * 3 // 2),
        layer_cfgs=dict(ffn_type='swiglu_fused'),
    )
    assert_same(model, source.forward_features, (32, 32))


def dinov3(**kwargs):
    return timm.models.Eva(
        img_size=32,
        num_classes=0,
        init_values=0.5,
        rope_type='dinov3',
        rope_temperature=100,
        rope_rotate_half=True,
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        num_reg_tokens=4,
        use_fc_norm=False,
        dynamic_img_size=True,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
        **SMALL,
        **kwargs,
    )


# The backbone's options for DINOv3, plain and gated.
DINOV3 = dict(
    num_registers=4,
    rotary=True,
    layer_scale_init_value=0.1,
    norm_cfg=dict(type='LN', eps=1e-5),
    layer_cfgs=dict(ffn_type='swiglu_fused'),
)


@pytest.mark.parametrize('qkv_bias', [False, True])
@pytest.mark.parametrize(
    'gated', [dict(), dict(swiglu_mlp=True), dict(swiglu_mlp=True, swiglu_align_to=8)], ids=str
)
def test_timm_dinov3(qkv_bias, gated, perturb, load, assert_same):
    source = perturb(dinov3(qkv_bias=qkv_bias, **gated))
    model, report = load(
        source.state_dict(),
        **(DINOV3 if gated else DINOV3 | dict(layer_cfgs=dict())),
        arch=dict(feedforward_channels=96 if gated else 64),
    )
    for size in ((32, 32), (24, 40)):
        assert_same(model, without_registers(source), size)
    assert not report.notes and bool(report.zero) != qkv_bias


def beit(size, **kwargs):
    return timm.models.Beit(
        img_size=size, num_classes=0, init_values=0.5, global_pool='token', **SMALL, **kwargs
    )


@pytest.mark.parametrize('learned', [False, True])
@pytest.mark.parametrize('shared', [False, True])
@SIZES
def test_beit(size, shared, learned, perturb, load, assert_same):
    """Into the only backbone with relative position bias."""
    source = perturb(
        beit(
            size,
            use_abs_pos_emb=learned,
            use_rel_pos_bias=not shared,
            use_shared_rel_pos_bias=shared,
        )
    )
    model, report = load(source.state_dict(), 'BEiTViT', img_size=size, use_abs_pos_emb=learned)
    assert_same(model, source.forward_features, size)
    assert not report.missing and not report.unexpected and not report.new


@SIZES
def test_beit_with_learned_positions_only(size, perturb, load, assert_same):
    source = perturb(beit(size, use_abs_pos_emb=True, use_rel_pos_bias=False))
    options = dict(img_size=size, layer_scale_init_value=0.1)
    with pytest.raises(CheckpointError, match='say it by assume=dict.rotary=.*RoPE-ViTs'):
        load(source.state_dict(), **options)
    model, _ = load(source.state_dict(), assume=dict(rotary=False), **options)
    assert_same(model, source.forward_features, size)


def test_norm_of_the_mean(perturb, load):
    """Fine-tuned MAE and BEiT normalize the mean of the patches."""
    source = perturb(vit(32, global_pool='avg'))
    model, report = load(
        source.state_dict(), 'VisionTransformer', final_norm=False, out_type='avg_featmap'
    )
    images = torch.randn(2, 3, 32, 32)
    pooled = source.forward_head(source.forward_features(images), pre_logits=True)
    torch.testing.assert_close(model(images)[-1], pooled, atol=1e-5, rtol=1e-5)
    _, report = load(source.state_dict(), final_norm=False)
    assert report.left_out['a norm of the mean of the patches'] == ['ln2.weight', 'ln2.bias']


# The published iBOT, which adds a mask token and layer scale of its own name to timm's ViT.


def published(source, masked_embed=True):
    renamed = {
        name.replace('ls1.gamma', 'gamma_1').replace('ls2.gamma', 'gamma_2'): tensor
        for name, tensor in source.state_dict().items()
        if not name.startswith('head.')
    }
    return renamed | ({'masked_embed': torch.randn(1, 32)} if masked_embed else {})


@pytest.mark.parametrize('module', ['', 'module.'])
@pytest.mark.parametrize('network', ['teacher', 'student'])
@SIZES
def test_published_training(size, network, module, perturb, load, prefixed, assert_same):
    """``checkpoint.pth``: both networks with heads, optimizer, settings."""
    networks = {n: perturb(vit(size, init_values=0.5)) for n in ('student', 'teacher')}
    states = {
        name: prefixed(f'{module}backbone.', published(source, name == 'student'))
        | {f'{module}head.mlp.0.weight': torch.randn(8, 32)}
        for name, source in networks.items()
    }
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    checkpoint = states | dict(
        optimizer=optimizer.state_dict(),
        epoch=3,
        args=argparse.Namespace(arch='vit_small', lr=1e-3, local_crops_scale=(0.1, 0.4)),
        ibot_loss=dict(center=torch.zeros(1, 8), center2=torch.zeros(1, 1, 8)),
        fp16_scaler=dict(scale=65536.0),
    )
    options = dict(img_size=size, layer_scale_init_value=0.1, mask_token=True)
    model, report = load(checkpoint, network=network, **options)
    assert report.network == f'{network}.{module}backbone.'
    assert_same(model, networks[network].forward_features, size)
    if network == 'student':
        mask_token = states['student'][f'{module}backbone.masked_embed']
        assert torch.equal(model.mask_token[0], mask_token)
    else:
        assert report.new == ['mask_token']


def test_published_teacher(perturb, load, assert_same):
    """``checkpoint_teacher.pth``: a bare backbone."""
    source = perturb(vit(32))
    model, _ = load(dict(state_dict=published(source, masked_embed=False)))
    assert_same(model, source.forward_features, (32, 32))
    student, report = load(dict(state_dict=published(source)))
    assert report.left_out == {'a mask token': ['mask_token']}
    assert_same(student, source.forward_features, (32, 32))


def test_mae_with_decoder(perturb, load, assert_same):
    source = perturb(vit(32, num_classes=0))
    decoder = {
        'mask_token': torch.randn(1, 1, 16),  # of the decoder's width
        'decoder_embed.weight': torch.randn(16, 32),
        'decoder_pos_embed': torch.randn(1, 17, 16),
        'decoder_blocks.0.attn.qkv.weight': torch.randn(48, 16),
        'decoder_pred.weight': torch.randn(192, 16),
    }
    checkpoint = dict(model=source.state_dict() | decoder, args=argparse.Namespace(model='mae'))
    model, report = load(checkpoint, mask_token=True)
    assert_same(model, source.forward_features, (32, 32))
    assert len(report.left_out['decoder']) == 4 and report.new == ['mask_token']


@pytest.mark.parametrize('chunks', [False, True])
@SIZES
def test_dinov2(size, chunks, perturb, load, assert_same):
    """The original's names, whose position embedding has an entry for [CLS]."""
    source = perturb(vit(size, reg_tokens=4, init_values=0.5, no_embed_class=True, num_classes=0))
    state = source.state_dict()
    state['register_tokens'] = state.pop('reg_token')
    state['pos_embed'] = torch.cat([torch.randn(1, 1, 32), state['pos_embed']], dim=1)
    state['cls_token'] = state['cls_token'] - state['pos_embed'][:, :1]
    state['mask_token'] = torch.randn(1, 32)
    if chunks:  # as in training
        state = {n.replace('blocks.1.', 'blocks.0.1.'): t for n, t in state.items()}
        state = {n.replace('blocks.0.', 'blocks.0.0.', 1) if '.0.1.' not in n else n: t
                 for n, t in state.items()}  # fmt: skip
    options = dict(img_size=size, num_registers=4, layer_scale_init_value=0.1, mask_token=True)
    model, report = load(state, **options)
    assert_same(model, without_registers(source), size)
    assert torch.equal(model.mask_token[0], state['mask_token'])
    assert report.format == 'DINOv2, its code'


def test_dinov2_swiglu(perturb, load, assert_same):
    gated = dict(mlp_layer=timm.layers.SwiGLUPacked, act_layer=torch.nn.SiLU, mlp_ratio=4)
    source = perturb(vit(32, num_classes=0, **gated))
    state = {
        n.replace('mlp.fc1', 'mlp.w12').replace('mlp.fc2', 'mlp.w3'): t
        for n, t in source.state_dict().items()
    }
    hidden = source.blocks[0].mlp.fc2.in_features
    model, _ = load(
        state,
        arch=dict(feedforward_channels=hidden * 3 // 2),
        layer_cfgs=dict(ffn_type='swiglu_fused'),
    )
    assert_same(model, source.forward_features, (32, 32))


def test_dinov3(perturb, load, assert_same):
    """The original's names: biases with a mask, whose value at the keys means nothing."""
    source = perturb(dinov3(qkv_bias=True, swiglu_mlp=True, swiglu_align_to=8))
    names = {
        'reg_token': 'storage_tokens',
        'gamma_1': 'ls1.gamma',
        'gamma_2': 'ls2.gamma',
        'mlp.fc1_g': 'mlp.w1',
        'mlp.fc1_x': 'mlp.w2',
        'mlp.fc2': 'mlp.w3',
    }
    state = {}
    for name, tensor in source.state_dict().items():
        for theirs, original in names.items():
            name = name.replace(theirs, original)
        state[name] = tensor
    for i in range(2):
        biases = [state.pop(f'blocks.{i}.attn.{kind}_bias') for kind in 'qv']
        bias = torch.cat([biases[0], torch.full((32,), torch.nan), biases[1]])
        state[f'blocks.{i}.attn.qkv.bias'] = bias
        state[f'blocks.{i}.attn.qkv.bias_mask'] = torch.ones(96).index_fill(
            0, torch.arange(32, 64), 0
        )
    state['mask_token'] = torch.randn(1, 32)
    state['rope_embed.periods'] = torch.randn(4)
    model, report = load(state, **DINOV3, arch=dict(feedforward_channels=96), mask_token=True)
    assert_same(model, without_registers(source), (24, 40))
    assert report.left_out == {'computed, not learned': ['rope_embed.periods']}
    assert torch.equal(model.mask_token[0], state['mask_token'])


def test_dinov3_with_another_grid_is_refused():
    """Which timm's JSON tells; the backbone would be off by as much as features are large."""
    name, options = 'vit_small_patch16_dinov3', dict(SMALL, img_size=32, rope_grid_offset=0.5)
    state = timm.create_model(name, num_classes=0, **options).state_dict()
    told = dict(architecture=name, model_args=options)
    with pytest.raises(CheckpointError, match='RotaryEmbeddingDinoV3 with grid_offset=0.5'):
        rebuild_backbone(Checkpoint('x', state, config=told))
