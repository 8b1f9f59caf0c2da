# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Backbones built from checkpoints alone, and their descriptions."""

import pytest
import torch

from ibot_mm.checkpoint import CheckpointError, backbone_config, rebuild_backbone, write_weights
from ibot_mm.checkpoint.architecture import describe_backbone, describe_network
from ibot_mm.checkpoint.recognize import recognize
from ibot_mm.models import MaskedSwinTransformer, MaskedVisionTransformer

OPTIONS = [
    dict(),
    dict(mask_token=True),
    dict(img_size=(24, 40)),
    dict(qkv_bias=False, pre_norm=True, final_norm=False),
    dict(layer_scale_init_value=0.1, num_registers=2),
    dict(rotary=True, in_channels=1),
    dict(with_cls_token=False, patch_cfg=dict(padding=0, bias=False)),
    dict(
        layer_cfgs=dict(ffn_type='swiglu_fused'), arch=dict(feedforward_channels=96),
        norm_cfg=dict(type='LN', eps=1e-5),
    ),
]  # fmt: skip


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_weights_and_backbone_are_described_alike(options, backbone):
    source = backbone(**options)
    described = describe_backbone(source)
    told = dict(num_heads=2, norm_eps=described.norm_eps, img_size=tuple(source.img_size))
    from_weights = describe_network(recognize(source.state_dict(), assume=told))
    assert from_weights.options() == described.options()
    again = MaskedVisionTransformer(**described.options())
    again.load_state_dict(source.state_dict(), strict=True)
    assert describe_backbone(again) == described


@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_backbone_comes_back(options, backbone, perturb, tmp_path):
    source = perturb(backbone(**options))
    path = tmp_path / 'x.safetensors'
    write_weights(path, source.state_dict(), dict(cfg=backbone_config(source)))
    back, report = rebuild_backbone(path)
    assert not report.missing and not report.unexpected and not back.training
    images = torch.randn(2, options.get('in_channels', 3), *source.img_size)
    assert torch.equal(back(images)[-1], source(images)[-1])
    assert back.state_dict().keys() == source.state_dict().keys()


@pytest.mark.parametrize('size, window', [(64, 2), (224, 14), (96, 4)])
def test_swin_comes_back(size, window, perturb, tmp_path):
    arch = dict(embed_dims=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2])
    source = perturb(MaskedSwinTransformer(arch=arch, img_size=size, window_size=window))
    path = tmp_path / 'x.pth'
    write_weights(path, source.state_dict(), dict(cfg=backbone_config(source)))
    back, _ = rebuild_backbone(path)
    images = torch.randn(1, 3, 64, 64)
    masks = torch.rand(1, 2, 2) > 0.5
    assert torch.equal(back(images, masks)[-1], source(images, masks)[-1])


def test_published_windows_of_swin_tell_the_size_of_images(tmp_path):
    for window in (7, 14):
        arch = dict(embed_dims=4, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
        source = MaskedSwinTransformer(arch=arch, window_size=window)
        path = tmp_path / f'{window}.pth'
        write_weights(path, {f'teacher.backbone.{n}': t for n, t in source.state_dict().items()})
        assert rebuild_backbone(path)[0].patch_resolution == source.patch_resolution


@pytest.mark.parametrize('arch', ['tiny', 'small', 'base', 'large'])
def test_usual_heads(arch):
    with torch.device('meta'):
        model = MaskedVisionTransformer(arch=arch)
    state = model.state_dict()
    description = describe_network(recognize(state))
    assert description.num_heads == model.layers[0].attn.num_heads
    assert 'usual for' in description.sources['num_heads']


def test_a_guess_of_heads_is_said(save):
    state = MaskedVisionTransformer(arch='tiny', img_size=32).state_dict()
    assert '3 attention heads, usual for 192 channels' in str(rebuild_backbone(save(state))[1])
    told = rebuild_backbone(save(state), assume=dict(num_heads=4))[1]
    assert not told.notes and 'usual for' not in str(told)


def test_heads_that_nothing_tells(backbone, save):
    path = save(backbone().state_dict())
    with pytest.raises(
        CheckpointError, match=r'32 channels with 2 layers is not a usual size: give'
    ):
        rebuild_backbone(path)
    assert rebuild_backbone(path, assume=dict(num_heads=4))[0].layers[0].attn.num_heads == 4
    with pytest.raises(CheckpointError, match='32 channels are not divisible by 5 heads'):
        rebuild_backbone(path, assume=dict(num_heads=5))


def without(state, ending):
    return {name: tensor for name, tensor in state.items() if not name.endswith(ending)}


@pytest.mark.parametrize(
    'content, network, message',
    [
        (lambda s: dict(fc=torch.zeros(2)), 'teacher', 'it holds no ViT of a known format'),
        (lambda s: {'layer1.0.conv1.weight': torch.zeros(2)}, 'teacher', 'it holds a ResNet'),
        (lambda s: {f'teacher.{n}': t for n, t in s.items()}, 'student', 'it holds no student'),
        (lambda s: without(s, '1.ln1.weight'), 'teacher', r'it lacks layers\.\*\.ln1\.weight'),
        (lambda s: without(s, '0.ffn.layers.1.weight'), 'teacher', 'it is not complete, it lacks'),
        (
            lambda s: s | dict(pos_embed=torch.zeros(1, 14, 32)),
            'teacher',
            '14 entries, not a square grid',
        ),
    ],
)
def test_what_cannot_be_rebuilt(content, network, message, backbone, save):
    with pytest.raises(CheckpointError, match=message):
        rebuild_backbone(save(content(backbone().state_dict())), network, assume=dict(num_heads=2))


def test_incomplete_swin(tmp_path):
    arch = dict(embed_dims=4, depths=[1, 1], num_heads=[1, 1])
    state = MaskedSwinTransformer(arch=arch, img_size=32).state_dict()
    table = 'stages.1.blocks.0.attn.w_msa.relative_position_bias_table'
    write_weights(tmp_path / 'x.pth', without(state, table))
    with pytest.raises(CheckpointError, match=f'it is not complete, it lacks {table}'):
        rebuild_backbone(tmp_path / 'x.pth')
    write_weights(tmp_path / 'y.pth', without(state, 'stages.1.blocks.0.norm1.weight'))
    with pytest.raises(CheckpointError, match=r'stages\.1\.blocks\.0\.norm1\.weight'):
        rebuild_backbone(tmp_path / 'y.pth')


def test_gated_network_that_mmpretrain_has_not(backbone, save):
    options = dict(layer_cfgs=dict(ffn_type='swiglu_fused'), arch=dict(feedforward_channels=96))
    state = backbone(**options).state_dict()
    for name in [n for n in state if '.w12.' in n]:
        state[name] = state[name][:24]
    for name in [n for n in state if n.endswith('.w3.weight')]:
        state[name] = state[name][:, :12]
    with pytest.raises(CheckpointError, match='a multiple of 8 hidden channels, the .* 12'):
        rebuild_backbone(save(state), assume=dict(num_heads=2))
