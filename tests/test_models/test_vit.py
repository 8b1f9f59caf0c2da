# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from functools import partial

import pytest
import timm
import torch
from mmengine.model.weight_init import PretrainedInit
from mmpretrain.models import VisionTransformer

from ibot_mm.checkpoint import published_to_ibot_mm
from ibot_mm.models import MaskedVisionTransformer

TINY = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=128)


def build(**kwargs):
    torch.manual_seed(0)
    model = MaskedVisionTransformer(**(dict(arch=TINY, img_size=32, patch_size=8) | kwargs))
    model.init_weights()
    return model


def load_timm(ours, theirs):
    """Weights of a timm ViT, whose registers have a name and whose q, k, v may have no bias."""
    state = {f'backbone.{name}': tensor for name, tensor in theirs.state_dict().items()}
    registers = state.pop('backbone.reg_token', None)
    names = published_to_ibot_mm(state, shared_head=True)
    state = {names[n].removeprefix('backbone.'): t for n, t in state.items()}
    if registers is not None:
        state['register_tokens'] = registers
    for name, tensor in ours.state_dict().items():
        if name.endswith('qkv.bias'):
            state.setdefault(name, torch.zeros_like(tensor))
    if ours.num_registers and not ours.rotary:  # theirs has no position of [CLS]
        state['pos_embed'] = torch.cat([torch.zeros(1, 1, 32), state['pos_embed']], dim=1)
    ours.load_state_dict(state)


def without_registers(tokens, number):
    return torch.cat([tokens[:, :1], tokens[:, 1 + number :]], dim=1)


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base', 'large'])
def test_arch_names_are_those_of_timm(arch):
    with torch.device('meta'):
        ours = MaskedVisionTransformer(arch=arch, mask_token=False)
        theirs = timm.create_model(f'vit_{arch}_patch16_224', num_classes=0)
    count = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert count[0] == count[1]


@pytest.mark.parametrize('size', [(32, 32), (16, 16), (40, 24)], ids=str)
@pytest.mark.parametrize('registers', [0, 3])
def test_features_equal_timms(size, registers):
    """timm's and the published function where no position embedding is resized."""
    torch.manual_seed(0)
    theirs = timm.models.VisionTransformer(
        img_size=size,
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=2,
        num_classes=0,
        reg_tokens=registers,
        no_embed_class=registers > 0,
    ).eval()
    ours = build(img_size=size, mask_token=False, num_registers=registers).eval()
    load_timm(ours, theirs)
    images = torch.randn(2, 3, *size)
    expected = without_registers(theirs.forward_features(images), registers)
    torch.testing.assert_close(ours(images)[-1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', [(32, 32), (16, 16), (40, 24)], ids=str)
def test_rotary_features_equal_timms_dinov3(size):
    torch.manual_seed(0)
    theirs = timm.models.Eva(
        img_size=32,
        patch_size=8,
        embed_dim=32,
        depth=3,
        num_heads=2,
        num_classes=0,
        dynamic_img_size=True,
        qkv_bias=False,
        init_values=0.5,
        use_abs_pos_emb=False,
        use_rot_pos_emb=True,
        rope_type='dinov3',
        rope_temperature=100,
        rope_rotate_half=True,
        num_reg_tokens=2,
        use_fc_norm=False,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-5),
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = build(
        mask_token=False,
        num_registers=2,
        rotary=True,
        layer_scale_init_value=0.5,
        norm_cfg=dict(type='LN', eps=1e-5),
    ).eval()
    load_timm(ours, theirs)
    images = torch.randn(2, 3, *size)
    expected = without_registers(theirs.forward_features(images), 2)
    torch.testing.assert_close(ours(images)[-1], expected, atol=1e-5, rtol=1e-5)


def test_checkpoints_are_mmpretrains():
    ours = build(mask_token=False).state_dict()
    stock = VisionTransformer(arch=TINY, img_size=32, patch_size=8)
    stock.load_state_dict(ours, strict=True)


VARIANTS = {
    'plain': {},
    'registers': dict(num_registers=2),
    'rotary': dict(rotary=True, num_registers=2),
}
variants = pytest.mark.parametrize('variant', VARIANTS.values(), ids=VARIANTS)


def test_initialization_is_truncated_normal():
    model = build(arch='tiny', img_size=224, patch_size=16, num_registers=40)
    names = ('layers.3.attn.qkv.weight', 'layers.0.ffn.layers.1.weight', 'pos_embed')
    for name in (*names, 'register_tokens'):
        assert model.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.05), name
    assert not model.layers[3].attn.qkv.bias.any() and not model.mask_token.any()


@pytest.mark.parametrize('out_type', ['cls_token', 'featmap', 'avg_featmap'])
def test_other_outputs_are_mmpretrains(out_type):
    out_indices = (0, -1)
    model = build(out_type=out_type, out_indices=out_indices, mask_token=False).eval()
    stock = VisionTransformer(
        arch=TINY, img_size=32, patch_size=8, out_type=out_type, out_indices=[0, -1]
    )
    stock.eval()  # returns None: the base class's train() does
    stock.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), stock(images))
    assert out_indices == (0, -1)


@pytest.mark.parametrize('as_list', [False, True])
def test_pretrained_weights_are_loaded_once_and_last(tmp_path, monkeypatch, as_list):
    source = {name: torch.randn_like(tensor) for name, tensor in build().state_dict().items()}
    torch.save(source, tmp_path / 'weights.pth')
    loads = []
    load = PretrainedInit.__call__
    monkeypatch.setattr(PretrainedInit, '__call__', lambda *args: loads.append(load(*args)))
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    if as_list:
        init_cfg = [dict(type='Constant', val=7, layer='Linear'), init_cfg]
    torch.testing.assert_close(dict(build(init_cfg=init_cfg).state_dict()), source)
    assert len(loads) == 1


@variants
def test_registers_and_rotary_leave_the_shape_of_outputs_alone(variant):
    model = build(mask_token=False, out_indices=[0, 2], **variant)
    assert [tuple(tokens.shape) for tokens in model(torch.randn(2, 3, 24, 40))] == [(2, 16, 32)] * 2
    model.out_type = 'featmap'
    assert model(torch.randn(2, 3, 24, 40))[1].shape == (2, 32, 3, 5)


def test_rotary_has_no_position_parameters():
    names = dict(build(rotary=True).named_parameters())
    assert 'pos_embed' not in names and names.keys() == dict(build().named_parameters()).keys() - {
        'pos_embed'
    }


@pytest.mark.parametrize('img_size', [32, 48])
def test_position_of_cls_is_dropped_where_there_is_no_cls(img_size):
    source = build(img_size=32, mask_token=False).state_dict()
    model = build(img_size=img_size, mask_token=False, with_cls_token=False)
    del source['cls_token']
    model.load_state_dict(source)
    assert model.pos_embed.shape == (1, (img_size // 8) ** 2, 32)
    corner = source['pos_embed'][:, 1]
    assert torch.equal(model.pos_embed[:, 0], corner) == (img_size == 32)
    model(torch.randn(1, 3, 32, 32))


def test_own_position_embedding_is_loaded_as_it_is():
    """5 x 10 patches without [CLS] are as many as 7 x 7 with it."""
    model = build(img_size=(40, 80), mask_token=False, with_cls_token=False)
    state = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    model.load_state_dict(dict(state))
    assert torch.equal(model.pos_embed, state['pos_embed'])


@pytest.mark.parametrize(
    'frozen_stages, frozen',
    [
        (-1, ()),
        (0, ('tokens', 'patch_embed')),
        (2, ('tokens', 'patch_embed', 'layers.0.', 'layers.1.')),
        (3, ('tokens', 'patch_embed', 'layers.', 'ln1.')),
    ],
)
def test_frozen_stages_stay_frozen(frozen_stages, frozen):
    model = build(
        frozen_stages=frozen_stages, num_registers=1, drop_rate=0.1, drop_path_rate=0.1
    ).train()
    tokens = ('cls_token', 'pos_embed', 'mask_token', 'register_tokens')
    for name, parameter in model.named_parameters():
        group = f'tokens.{name}' if name in tokens else name
        assert parameter.requires_grad != group.startswith(tuple(frozen)), name
    assert model.drop_after_pos.training == (frozen_stages < 0)
    for number, layer in enumerate(model.layers):
        modes = {module.training for module in layer.modules()}
        assert modes == {number >= frozen_stages}
    assert not model.eval().layers[2].training


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(arch='smal'), r"Unknown arch 'smal'.*'base'.*'small'"),
        (dict(arch=dict(embed_dims=32)), r"lacks \['feedforward_channels', 'num_heads'"),
        (dict(out_indices=[0, 3]), r'out_indices=\[0, 3\] of a network with 3 layers.*0 to 2'),
        (dict(out_indices=-4), r'out_indices=\[-4\].*from -3 to -1'),
        (dict(out_indices=[2, 0]), 'increasing order'),
        (dict(out_indices=[2, -1]), 'different layers'),
        (dict(out_indices=[]), r'out_indices=\[\]'),
        (dict(frozen_stages=4), r'frozen_stages must be between -1 \(nothing\) and 3.*got 4'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_heads_that_cannot_be_rotated():
    model = build(arch=TINY | dict(embed_dims=36), rotary=True)
    with pytest.raises(ValueError, match='multiple of 4 channels, got 18'):
        model(torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize('size', [(7, 32), (32, 7)], ids=str)
@pytest.mark.parametrize('patch_cfg', [dict(padding=0), dict()], ids=['cut', 'padded'])
def test_images_smaller_than_a_patch(size, patch_cfg):
    with pytest.raises(ValueError, match=r'pixels are smaller than one patch of \(8, 8\)'):
        build(patch_cfg=patch_cfg)(torch.randn(1, 3, *size))


def test_forward_hooks_of_layers_and_attention_are_called():
    """As tools that look into a network, and wrappers that shard it, rely on."""
    model, images, outputs = build(), torch.randn(2, 3, 32, 32), {}

    def keep(module, args, output, name=''):
        outputs[name] = output

    for index, layer in enumerate(model.layers):
        layer.register_forward_hook(partial(keep, name=f'layer {index}'))
        layer.attn.register_forward_hook(partial(keep, name=f'attention {index}'))
    tokens = model.last_blocks(images, 3, final_norm=False)
    assert len(outputs) == 6
    for index, expected in enumerate(tokens):
        assert torch.equal(outputs[f'layer {index}'], expected)
        assert outputs[f'attention {index}'].shape == expected.shape
