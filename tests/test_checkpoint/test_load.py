# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights that do not fit: one error with the cause and the option that ends it."""

import pytest
import timm
import torch
import torchvision
from mmengine.logging import MMLogger
from mmpretrain.models import BEiTViT, ResNet, SwinTransformer

from ibot_mm.checkpoint import CheckpointError, load_weights
from ibot_mm.checkpoint.recognize import recognize
from ibot_mm.models import MaskedVisionTransformer

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
OPTIONS = dict(img_size=32, patch_size=8)
TWELVE = ARCH | dict(num_layers=12)


def ours(arch=ARCH, **kwargs):
    model = MaskedVisionTransformer(arch, **(OPTIONS | dict(mask_token=False) | kwargs))
    model.init_weights()
    return model


def beit(**kwargs):
    return BEiTViT(ARCH, **OPTIONS, out_type='raw', **kwargs)


# Options of the checkpoint's network and of the backbone, and what the error says.
DIFFERENT = {
    'depth': (dict(arch=TWELVE), dict(), 'number of layers: 12 in the checkpoint, 2 .*arch'),
    'less depth': (dict(), dict(arch=TWELVE), 'number of layers: 2 in the checkpoint, 12'),
    'width': (dict(arch=ARCH | dict(embed_dims=48)), dict(), 'channels: 48 .*embed_dims=48'),
    'hidden': (
        dict(),
        dict(arch=ARCH | dict(feedforward_channels=96)),
        'feed-forward network: 64 .*set feedforward_channels=64',
    ),
    'channels': (dict(in_channels=4), dict(), 'channels of images: 4 .*set in_channels=4'),
    'scaled': (
        dict(layer_scale_init_value=0.1),
        dict(),
        'the checkpoint has layer scale.*set layer_scale_init_value=1e-5',
    ),
    'unscaled': (
        dict(),
        dict(layer_scale_init_value=0.1),
        'the backbone has layer scale.*set layer_scale_init_value=0',
    ),
    'registers': (dict(num_registers=3), dict(), 'has register tokens.*set num_registers=3'),
    'no registers': (dict(), dict(num_registers=3), 'set num_registers=0'),
    'other registers': (
        dict(num_registers=4),
        dict(num_registers=3),
        'register tokens: 4 .*set num_registers=4',
    ),
    'rotary': (
        dict(rotary=True),
        dict(),
        'positions in the checkpoint are rotary.*set rotary=True',
    ),
    'learned': (
        dict(),
        dict(rotary=True),
        'positions in the checkpoint are learned.*set rotary=False',
    ),
    'no [CLS]': (dict(with_cls_token=False), dict(), 'set with_cls_token=False'),
    'no norm': (dict(final_norm=False), dict(), 'set final_norm=False'),
    'pre-norm': (dict(pre_norm=True), dict(), 'set pre_norm=True'),
    'no pre-norm': (
        dict(patch_cfg=dict(bias=False)),
        dict(pre_norm=True),
        'set pre_norm=False',
    ),
    'gated': (
        dict(layer_cfgs=dict(ffn_type='swiglu_fused')),
        dict(),
        "set layer_cfgs=dict.ffn_type='swiglu_fused'",
    ),
    'not gated': (
        dict(),
        dict(layer_cfgs=dict(ffn_type='swiglu_fused')),
        "set layer_cfgs=dict.ffn_type='origin'",
    ),
}


@pytest.mark.parametrize('name', DIFFERENT)
def test_different_networks(name, perturb, save, assert_same):
    source_options, target_options, message = DIFFERENT[name]
    source, model = perturb(ours(**source_options)), ours(**target_options)
    path, before = save(source.state_dict()), model.layers[0].attn.proj.weight.clone()
    with pytest.raises(CheckpointError, match=message) as error:
        load_weights(model, path)
    assert path in str(error.value) and str(error.value).count('\n  - ') == 1
    assert torch.equal(model.layers[0].attn.proj.weight, before)

    report = load_weights(model, path, strict=False)
    assert len(report.differences) == 1 and report.missing + report.unexpected or 'rotary' in name
    same = source.layers[0].attn.proj.weight
    assert torch.equal(model.layers[0].attn.proj.weight, same) or name == 'width'


def test_bias_without_place_and_without_effect(perturb, save):
    source = ours()
    with torch.no_grad():
        source.layers[0].attn.qkv.bias[40].fill_(1)
    with pytest.raises(CheckpointError, match='set qkv_bias=True'):
        load_weights(ours(qkv_bias=False), save(source.state_dict()))
    with torch.no_grad():
        source.layers[0].attn.qkv.bias.zero_()
    report = load_weights(ours(qkv_bias=False), save(source.state_dict()))
    assert len(report.left_out['biases, all zero']) == 2


def test_relative_positions_have_their_place_in_beit_only(perturb, save):
    path = save(beit().state_dict())
    with pytest.raises(
        CheckpointError, match='positions in the checkpoint are relative.*mmpretrain.BEiTViT'
    ):
        load_weights(ours(layer_scale_init_value=0.1), path)
    path = save(ours(layer_scale_init_value=0.1).state_dict())
    with pytest.raises(
        CheckpointError, match='positions in the checkpoint are learned.*use_abs_pos_emb=True'
    ):
        load_weights(beit(), path)


def test_rotary_positions_of_another_kind(save):
    """timm's axial ones have the names of DINOv3's but for registers."""
    source = timm.models.Eva(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2,
        use_rot_pos_emb=True, use_abs_pos_emb=False, init_values=0.1,
    )  # fmt: skip
    model = ours(rotary=True, layer_scale_init_value=0.1, final_norm=False)
    with pytest.raises(CheckpointError, match='positions in the checkpoint are of an unknown kind'):
        load_weights(model, save(source.state_dict()))


@pytest.mark.parametrize('number', [1, 2])
def test_incomplete(number, save):
    state = ours().state_dict()
    lacking = ['layers.1.attn.proj.weight', 'layers.0.ln1.bias'][:number]
    for name in lacking:
        del state[name]
    with pytest.raises(CheckpointError, match='not complete, it lacks layers') as error:
        load_weights(ours(), save(state))
    assert str(error.value).count('layers.*') == number


def test_a_part_of_a_joined_tensor_is_missing(save):
    state = timm.create_model('vit_tiny_patch16_224', depth=1, num_classes=0).state_dict()
    q, k, v = state.pop('blocks.0.attn.qkv.weight').chunk(3)
    renamed = {'embeddings.patch_embeddings.weight': state['patch_embed.proj.weight']}
    renamed |= {'layer.0.attention.q_proj.weight': q, 'layer.0.attention.v_proj.weight': v}
    with pytest.raises(
        CheckpointError, match='not complete.*lacks layer.0.attention.k_proj.weight'
    ):
        recognize(renamed)


def test_unknown_names(save):
    state = ours().state_dict() | {'layers.0.attn.q_norm.weight': torch.ones(16)}
    path = save(state)
    with pytest.raises(CheckpointError, match=r'without a place: layers.\*.attn.q_norm.weight'):
        load_weights(ours(), path)
    report = load_weights(ours(), path, strict=False)
    assert report.unexpected == ['layers.0.attn.q_norm.weight']


FOREIGN = {
    'a ResNet': lambda: ResNet(18),
    'a ResNet,': lambda: torchvision.models.resnet18(),
    'a Swin Transformer': lambda: SwinTransformer(
        dict(embed_dims=8, depths=[1, 1], num_heads=[1, 1]), out_indices=(1,)
    ),
    'a Swin Transformer,': lambda: timm.models.SwinTransformer(
        embed_dim=8, depths=(1, 1), num_heads=(1, 1)
    ),
    'a network of stages': lambda: timm.create_model('convnext_atto'),
    'no ViT of a known format; its 1 tensors begin with x': lambda: torch.nn.ParameterDict(
        dict(x=torch.ones(1))
    ),
}


@pytest.mark.parametrize('what', FOREIGN)
def test_no_vit(what, save):
    path = save({name: torch.zeros(1) for name in FOREIGN[what]().state_dict()})
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=f'holds {what}') as error:
            load_weights(ours(), path, strict=strict)
        assert path in str(error.value)


def test_several_networks(save, prefixed):
    state = ours().state_dict()
    both = prefixed('left.', state) | prefixed('right.', state)
    with pytest.raises(CheckpointError, match=r"several networks, \['left.', 'right.'\]"):
        load_weights(ours(), save(both))
    with pytest.raises(CheckpointError, match='no student'):
        load_weights(ours(), save(dict(teacher=state)), network='student')


def test_resize_of_the_position_embedding(perturb, save):
    """Bicubic as mmpretrain's own; the rest of the weights untouched."""
    from mmpretrain.models.utils import resize_pos_embed

    source, model = perturb(ours()), ours(img_size=(48, 40))
    report = load_weights(model, save(source.state_dict()))
    expected = resize_pos_embed(source.pos_embed, (4, 4), (6, 5))
    torch.testing.assert_close(model.pos_embed, expected)
    assert torch.equal(model.pos_embed[:, 0], source.pos_embed[:, 0])
    assert report.resized == {'pos_embed': '4 x 4 to 6 x 5 patches'}


def test_grid_that_cannot_be_told(save):
    path = save(ours(img_size=(24, 48)).state_dict())
    with pytest.raises(CheckpointError, match='19 entries.*not a square grid.*4 x 4.*set img_size'):
        load_weights(ours(), path)
    load_weights(ours(img_size=(24, 48)), path)


def test_resize_of_the_relative_position_bias(perturb, save):
    """A head that looks at vertical distances still does, and so for horizontal ones."""
    source, model = beit(), BEiTViT(ARCH, img_size=(64, 48), patch_size=8, out_type='raw')
    distances = torch.cartesian_prod(torch.arange(-3.0, 4), torch.arange(-3.0, 4))
    table = source.layers[1].attn.relative_position_bias_table
    with torch.no_grad():
        table[:-3] = distances
        table[-3:] = torch.arange(6.0).view(3, 2)
    report = load_weights(model, save(source.state_dict()))
    loaded = model.layers[1].attn.relative_position_bias_table
    vertical, horizontal = loaded[:-3].detach().unflatten(0, (15, 11)).unbind(-1)
    assert torch.equal(loaded[-3:], table[-3:])
    torch.testing.assert_close(vertical, vertical[:, :1].expand(-1, 11))
    torch.testing.assert_close(horizontal, horizontal[:1].expand(15, -1))
    for maps in (vertical[:, 0], horizontal[0]):
        assert (maps.diff() > 0).all() and maps[len(maps) // 2].abs() < 1e-5
        assert 2.9 < maps[-1] < 3.3
    assert report.resized == {
        f'layers.{i}.attn.relative_position_bias_table': 'to 8 x 6 patches' for i in range(2)
    }


def test_half_precision_is_loaded_into_full(save):
    source = ours().half()
    model = ours(img_size=48)
    load_weights(model, save(source.state_dict()))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.ln1.weight, source.ln1.weight.float())


def test_report(perturb, save):
    """One table, in the log as a warning where something is amiss."""
    source = perturb(ours(num_registers=2))
    state = {f'teacher.backbone.{n}': t for n, t in source.state_dict().items()}
    state |= {f'backbone.{n}': t for n, t in source.state_dict().items()}
    model = ours(img_size=48, mask_token=True)
    report = load_weights(model, save(dict(state_dict=state)), strict=False)
    text = ' '.join(str(report).split())
    for line in (
        "network 'state_dict.teacher.backbone.'",
        'resized, 4 x 4 to 6 x 6 patches 1 pos_embed',
        'left out: heads and other networks 31 state_dict.backbone.* (31)',
        'new 1 mask_token',
        'missing 0',
        'unexpected 1 register_tokens',
        'layers.*.attn.qkv.weight (2)',
        'set num_registers=2',
    ):
        assert line in text, line


@pytest.mark.parametrize('amiss, level', [(False, 'INFO'), (True, 'WARNING')])
def test_report_in_the_log(amiss, level, save, tmp_path):
    logger = MMLogger.get_instance(f'report-{level}', log_file=str(tmp_path / 'log'))
    state = ours().state_dict()
    if amiss:
        state.pop('ln1.bias')
    load_weights(ours(), save(state), strict=False).log()
    logger.handlers[-1].flush()
    log = (tmp_path / 'log').read_text()
    assert level in log and log.count('names of ibot_mm') == 1
