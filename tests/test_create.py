# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Backbones by name, as people without configs use them."""

import re
from pathlib import Path

import pytest
import timm
import torch

import ibot_mm
from ibot_mm.models import MaskedSwinTransformer, MaskedVisionTransformer

SMALL = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
SMALL_SWIN = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])


@pytest.mark.parametrize('name', ibot_mm.list_backbones())
def test_every_name_builds(name, monkeypatch):
    """ViTs without memory, Swins without size."""
    monkeypatch.setattr(MaskedVisionTransformer, 'init_weights', lambda self: None)
    for arch in ('tiny', 'small', 'base', 'large'):
        assert arch in MaskedSwinTransformer.arch_zoo
        monkeypatch.setitem(MaskedSwinTransformer.arch_zoo, arch, SMALL_SWIN)
    with torch.device('cpu' if 'swin' in name else 'meta'):
        backbone = ibot_mm.create_backbone(name)
    assert not backbone.training and backbone.mask_token is None
    if patch := re.search(r'patch(\d+)', name):
        assert backbone.patch_embed.projection.kernel_size == (int(patch[1]),) * 2
    if window := re.search(r'window(\d+)', name):
        assert backbone.stages[0].blocks[0].attn.window_size == int(window[1])


@pytest.mark.parametrize(
    'name, of_timm',
    [
        ('vit_small_patch16', 'vit_small_patch16_224'),
        ('vit_base_patch14_dinov2', 'vit_base_patch14_dinov2'),
        ('vit_base_patch14_reg4_dinov2', 'vit_base_patch14_reg4_dinov2'),
        ('vit_small_patch16_dinov3', 'vit_small_patch16_dinov3_qkvb'),
        ('swin_tiny_patch4_window7', 'swin_tiny_patch4_window7_224'),
    ],
)
def test_names_mean_what_they_mean_in_timm(name, of_timm, monkeypatch):
    monkeypatch.setattr(MaskedVisionTransformer, 'init_weights', lambda self: None)
    monkeypatch.setattr(MaskedSwinTransformer, 'init_weights', lambda self: None)
    with torch.device('cpu' if 'swin' in name else 'meta'):
        ours = ibot_mm.create_backbone(name)
        theirs = timm.create_model(of_timm, num_classes=0)
    count = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    if 'reg4' in name:
        count[1] += 768  # the entry of [CLS] in the position embedding, in its token there
    if 'dinov3' in name:
        count[1] += 12 * 384  # the bias of keys, always zero there
    assert count[0] == count[1]


def test_list_is_filtered():
    assert ibot_mm.list_backbones('swin_tiny*') == [
        'swin_tiny_patch4_window7',
        'swin_tiny_patch4_window14',
    ]
    assert ibot_mm.list_backbones('resnet*') == []
    assert 'vit_base_patch16' in ibot_mm.list_backbones()


@pytest.mark.parametrize(
    'name, message',
    [
        ('vit_base_16', 'near are vit_base_patch16, '),
        ('vit_base_patch16_224', 'near are vit_base_patch16, '),
        ('swin_tiny', 'near are swin_tiny_patch4_window7, '),
        ('resnet50', r'list_backbones\(\) has all'),
    ],
)
def test_wrong_name(name, message):
    with pytest.raises(ValueError, match=f"Unknown backbone '{name}': {message}"):
        ibot_mm.create_backbone(name)


@pytest.fixture
def checkpoint(tmp_path):
    """A pre-training whose teacher has ones for [CLS], its student twos."""
    states = {}
    for prefix, value in (('backbone.', 2), ('teacher.backbone.', 1)):
        model = MaskedVisionTransformer(arch=SMALL, img_size=32, patch_size=16)
        torch.nn.init.constant_(model.cls_token, value)
        states |= {f'{prefix}{n}': t for n, t in model.state_dict().items()}
    torch.save(dict(state_dict=states), tmp_path / 'x.pth')
    return tmp_path / 'x.pth'


@pytest.mark.parametrize('network, value', [('teacher', 1), ('student', 2)])
def test_pretrained(network, value, checkpoint):
    backbone = ibot_mm.create_backbone(
        'vit_base_patch16', pretrained=checkpoint, network=network, arch=SMALL, img_size=32
    )
    assert (backbone.cls_token == value).all() and not backbone.training


def test_weights_that_do_not_fit(checkpoint, tmp_path):
    with pytest.raises(ValueError, match='32 in the checkpoint, 192 in the backbone'):
        ibot_mm.create_backbone('vit_tiny_patch16', pretrained=checkpoint)
    with pytest.raises(ValueError, match='is not there'):
        ibot_mm.create_backbone('vit_tiny_patch16', pretrained=tmp_path / 'nothing.pth')


def test_pretrained_swin(tmp_path):
    source = MaskedSwinTransformer(arch=SMALL_SWIN).eval()
    torch.save({f'teacher.backbone.{n}': t for n, t in source.state_dict().items()},
               tmp_path / 'x.pth')  # fmt: skip
    backbone = ibot_mm.create_backbone(
        'swin_tiny_patch4_window7', pretrained=tmp_path / 'x.pth', arch=SMALL_SWIN
    )
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(backbone(images)[-1], source(images)[-1])


@pytest.mark.parametrize('page', ['README.md', 'docs/weights.md'])
def test_three_lines(page, checkpoint, tmp_path, monkeypatch):
    """As the docs have them, with a small network of that name."""
    text = (Path(__file__).parents[1] / page).read_text()
    blocks = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    (code,) = (block for block in blocks if 'create_backbone' in block)
    assert len([line for line in code.splitlines() if line]) == 3
    (tmp_path / 'checkpoint_teacher.pth').write_bytes(checkpoint.read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MaskedVisionTransformer.arch_zoo, 'base', SMALL)
    names = dict(images=torch.randn(2, 3, 224, 224))
    exec(code, names)
    assert names['tokens'].shape == (2, 1 + 14 * 14, 32)
    assert not names['backbone'].training


def test_nothing_is_said_about_random_weights(capsys):
    ibot_mm.create_backbone('vit_base_patch16', arch=SMALL)
    assert 'cls_token' not in ''.join(capsys.readouterr())
