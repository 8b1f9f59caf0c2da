# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights for other libraries: taken by their networks, the same tokens there, the same back."""

import json
from pathlib import Path

import mmpretrain.models
import pytest
import timm
import torch
import transformers
from torch import nn

from ibot_mm.checkpoint import (
    LIBRARIES,
    Checkpoint,
    CheckpointError,
    backbone_config,
    export_backbone,
    export_checkpoint,
    rebuild_backbone,
    write_export,
)
from ibot_mm.models import (
    MaskedSwinTransformer,
    MaskedVisionTransformer,
    TimmVisionTransformer,
)

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
SCALED = dict(layer_scale_init_value=0.1)
GATED = dict(
    layer_cfgs=dict(ffn_type='swiglu_fused'), arch=ARCH | dict(feedforward_channels=96)
)  # 64 hidden channels
DINOV3 = dict(rotary=True, num_registers=2, norm_cfg=dict(type='LN', eps=1e-5), **SCALED)
ADDED_BY_HUGGING_FACE = {'mask_token', *(f'layers.{i}.{n}.weight' for i in (0, 1)
                         for n in ('attn.gamma1', 'ffn.gamma2'))}  # fmt: skip

# Features of a backbone, and the libraries that have a network with them.
CASES = {
    'plain': (dict(), set(LIBRARIES)),
    'mask token': (dict(mask_token=True), set(LIBRARIES)),
    'not square': (dict(img_size=(24, 40)), {'mmpretrain', 'timm', 'huggingface'}),
    'no biases': (dict(qkv_bias=False), set(LIBRARIES)),
    'layer scale': (SCALED, set(LIBRARIES)),
    'layer scale and mask token': (SCALED | dict(mask_token=True), set(LIBRARIES)),
    'SwiGLU': (GATED, {'mmpretrain', 'timm', 'huggingface'}),
    'SwiGLU and layer scale': (GATED | SCALED, {'mmpretrain', 'timm', 'huggingface'}),
    'registers': (dict(num_registers=3), {'timm', 'huggingface'}),
    'registers as in DINOv2': (
        dict(num_registers=3, mask_token=True, **SCALED),
        {'timm', 'huggingface'},
    ),
    'rotary': (dict(rotary=True), {'timm', 'huggingface'}),
    'DINOv3': (DINOV3, {'timm', 'huggingface'}),
    'DINOv3 with SwiGLU': (DINOV3 | GATED | dict(mask_token=True), {'timm', 'huggingface'}),
    'norm before': (dict(pre_norm=True), {'mmpretrain', 'timm'}),
    'no final norm': (dict(final_norm=False), {'mmpretrain', 'timm'}),
    'no [CLS]': (dict(with_cls_token=False), {'mmpretrain', 'timm'}),
    'no bias of patches': (dict(patch_cfg=dict(padding=0, bias=False)), set(LIBRARIES)),
    'another eps': (
        dict(norm_cfg=dict(type='LN', eps=1e-3)),
        {'mmpretrain', 'timm', 'huggingface'},
    ),
    'gray images': (dict(in_channels=1), set(LIBRARIES)),
}
WORDS = {  # of the refusal
    'not square': 'not square',
    'SwiGLU': 'SwiGLU',
    'registers': 'register tokens',
    'rotary': 'rotary',
    'DINOv3': 'rotary',
    'norm before': 'a norm before',
    'no final norm': 'no final norm',
    'no [CLS]': r'no \[CLS\]',
    'another eps': 'an eps of 0.001',
}


def tensors_of(location):
    return Checkpoint.open(location).tensors


def build(**options):
    return MaskedVisionTransformer(
        **(dict(arch=ARCH, img_size=32, patch_size=8, mask_token=False) | options)
    )


def network_of(library, export):
    """The library's own network, which takes the weights strictly."""
    options = dict(export.target.options)
    if library == 'mmpretrain':
        network = mmpretrain.models.VisionTransformer(**options)
    elif library == 'timm':
        network = timm.create_model(**options)
    else:
        cls = getattr(transformers, options['architectures'][0])
        pooling = dict(add_pooling_layer=False) if cls is transformers.ViTModel else {}
        network = cls(cls.config_class.from_dict(options), **pooling)
    network.load_state_dict(export.weights, strict=True)
    network.eval()
    return network


def tokens_of(library, network, images, registers):
    """[CLS] and patches of a library's network, as this project gives them."""
    if library == 'mmpretrain':
        return network(images)[-1]
    if library == 'timm':
        tokens = network.forward_features(images)
    else:
        tokens = network(images).last_hidden_state
    return torch.cat([tokens[:, :1], tokens[:, 1 + registers :]], dim=1) if registers else tokens


def assert_equal_states(own, back, left_out, added):
    assert set(own) - set(back) == set(left_out)
    assert set(back) - set(own) <= set(added)
    for name in own.keys() & back.keys():
        assert torch.equal(own[name], back[name]), name


@pytest.mark.parametrize(
    'case, library', [(c, lib) for c, (_, libs) in CASES.items() for lib in sorted(libs)]
)
def test_export(case, library, perturb, tmp_path):
    """Strict loading and the same tokens there, the same bits back here."""
    options = CASES[case][0]
    backbone = perturb(build(**options))
    export = export_backbone(backbone, library)
    if library != 'published':  # whose network no package has
        network = network_of(library, export)
        images = torch.randn(2, options.get('in_channels', 3), *backbone.img_size)
        with torch.no_grad():
            tokens = tokens_of(library, network, images, backbone.num_registers)
            expected = backbone(images)[-1]
        assert expected.std() > 0.1
        torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)

    if (case, library) == ('rotary', 'timm'):
        return  # without registers its names are those of other rotary networks
    path = tmp_path / ('folder' if library == 'huggingface' else 'weights.pth')
    text = write_export(path, export, backbone_config(backbone))
    back, report = rebuild_backbone(path)
    assert not report.missing and not report.unexpected
    assert_equal_states(
        backbone.state_dict(),
        back.state_dict(),
        left_out=export.target.left_out,
        added=export.target.added,
    )
    assert bool(export.target.left_out) == ('left out: the mask token' in text)
    with torch.no_grad():
        images = torch.randn(1, options.get('in_channels', 3), *backbone.img_size)
        assert torch.equal(back(images)[-1], backbone(images)[-1])


@pytest.mark.parametrize(
    'case, library',
    [(c, lib) for c, (_, libs) in CASES.items() for lib in sorted(set(LIBRARIES) - libs)],
)
def test_what_a_library_has_not_is_refused(case, library):
    words = next(w for start, w in WORDS.items() if case.startswith(start))
    with pytest.raises(
        CheckpointError, match=f'cannot hold these weights.*{words}.*than {library}'
    ):
        export_backbone(build(**CASES[case][0]), library)


# Rows of the table in the docs, by the cases that they speak of.
DOCUMENTED = {
    'nothing special': ['plain'],
    'mask token': ['mask token'],
    'layer scale': ['layer scale'],
    'register tokens': ['registers'],
    'SwiGLU': ['SwiGLU'],
    'rotary position embedding': ['rotary', 'DINOv3'],
    'position embedding that is not square': ['not square'],
    'norm before the layers, no final norm, no [CLS]': ['norm before', 'no final norm', 'no [CLS]'],
}


def test_documented_table():
    lines = (Path(__file__).parents[2] / 'docs/weights.md').read_text().splitlines()
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines if line[:1] == '|']
    assert rows[0][1:] == list(LIBRARIES) and [row[0] for row in rows[2:]] == list(DOCUMENTED)
    for title, *cells in rows[2:]:
        held = {library for library, cell in zip(LIBRARIES, cells) if cell != 'no'}
        assert all(held == CASES[case][1] for case in DOCUMENTED[title]), title


def test_parts_that_a_library_always_has_are_told(perturb, tmp_path):
    export = export_backbone(perturb(build(num_registers=3)), 'huggingface')
    assert set(export.target.added) == ADDED_BY_HUGGING_FACE
    text = write_export(tmp_path / 'folder', export)
    assert 'without effect: layer scale of ones' in text
    assert 'without effect: a mask token of zeros' in text


def test_folder_for_transformers(perturb, tmp_path):
    """As a user of transformers reads it."""
    backbone = perturb(build())
    write_export(tmp_path / 'vit', export_backbone(backbone, 'huggingface'))
    assert sorted(p.name for p in (tmp_path / 'vit').iterdir()) == [
        'config.json',
        'model.safetensors',
    ]
    config = json.loads((tmp_path / 'vit/config.json').read_text())
    assert config['num_attention_heads'] == 2 and config['layer_norm_eps'] == 1e-6
    model, info = transformers.ViTModel.from_pretrained(
        tmp_path / 'vit', add_pooling_layer=False, output_loading_info=True
    )
    assert not info['missing_keys'] and not info['unexpected_keys']
    assert isinstance(transformers.AutoConfig.from_pretrained(tmp_path / 'vit'),
                      transformers.ViTConfig)  # fmt: skip
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        model.eval()(images).last_hidden_state, backbone(images)[-1], atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize('ending', ['safetensors', 'pth'])
def test_file_for_timm(ending, perturb, tmp_path):
    """timm's own loading of a whole checkpoint; the printed line is the call."""
    backbone = perturb(build(num_registers=2, **SCALED))
    path = tmp_path / f'weights.{ending}'
    text = write_export(path, export_backbone(backbone, 'timm'))
    model = eval(text.splitlines()[-1], dict(timm=timm, nn=nn)).eval()
    images = torch.randn(2, 3, 32, 32)
    tokens = tokens_of('timm', model, images, 2)
    torch.testing.assert_close(tokens, backbone(images)[-1], atol=1e-5, rtol=1e-5)


def test_file_for_mmpretrain(perturb, tmp_path):
    """mmengine's own initialization by the printed config."""
    backbone = perturb(build(mask_token=True, **SCALED))
    path = tmp_path / 'weights.pth'
    text = write_export(path, export_backbone(backbone, 'mmpretrain'))
    model = mmpretrain.registry.MODELS.build(eval(text.splitlines()[-1]))
    model.init_weights()
    model.eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images)[-1], backbone(images)[-1], atol=1e-5, rtol=1e-5)


def test_published_file_is_what_published_code_reads(perturb, tmp_path):
    backbone = perturb(build(mask_token=True))
    write_export(tmp_path / 'checkpoint_student.pth', export_backbone(backbone, 'published'))
    state = torch.load(tmp_path / 'checkpoint_student.pth', weights_only=True)['state_dict']
    expected = timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2, num_classes=0
    ).state_dict()
    assert set(state) == {*expected, 'masked_embed'}
    assert state['masked_embed'].shape == (1, 32)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_types_are_kept(dtype, perturb, tmp_path):
    backbone = perturb(build()).to(dtype)
    write_export(tmp_path / 'w.pth', export_backbone(backbone, 'timm'), backbone_config(backbone))
    back, _ = rebuild_backbone(tmp_path / 'w.pth')
    assert_equal_states(backbone.state_dict(), back.state_dict(), (), ())
    assert back.cls_token.dtype == dtype


@pytest.mark.parametrize('network', ['teacher', 'student'])
@pytest.mark.parametrize(
    'name, options',
    [
        ('vit_tiny_patch16_224', dict(img_size=32, patch_size=8)),
        ('vit_small_patch16_dinov3', dict(num_reg_tokens=2)),  # any form that timm has
        ('eva02_tiny_patch14_224', dict(img_size=28)),
    ],
)
def test_timm_model_of_a_training_only_loses_its_prefix(name, options, network, tmp_path):
    options = dict(embed_dim=24, depth=1, num_heads=2, num_classes=0) | options
    models = {n: timm.create_model(name, **options) for n in ('teacher', 'student')}
    prefixes = dict(teacher='state_dict.teacher.backbone.', student='state_dict.backbone.')
    tensors = {'state_dict.backbone.mask_token': torch.zeros(1, 1, 24)}
    for n, model in models.items():
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        tensors |= {f'{prefixes[n]}timm_model.{k}': t for k, t in model.state_dict().items()}
    torch.save(tensors, tmp_path / 'training.pth')
    export, *_ = export_checkpoint(tmp_path / 'training.pth', 'timm', network)
    path = tmp_path / 'weights.safetensors'
    text = write_export(path, export)
    assert ('left out: the mask token' in text) == (network == 'student')
    fresh = timm.create_model(name, **options)
    fresh.load_state_dict(tensors_of(path), strict=True)
    expected = models[network].state_dict()
    assert all(torch.equal(t, expected[n]) for n, t in fresh.state_dict().items())


def test_timm_model_gives_the_tokens_of_the_training(perturb, tmp_path):
    options = dict(embed_dim=32, depth=1, num_heads=2, img_size=32, patch_size=8)
    backbone = perturb(TimmVisionTransformer('vit_small_patch16_224', **options))
    tensors = {f'state_dict.backbone.{n}': t for n, t in backbone.state_dict().items()}
    torch.save(tensors, tmp_path / 'training.pth')
    export, *_ = export_checkpoint(tmp_path / 'training.pth', 'timm', 'student')
    write_export(tmp_path / 'x.safetensors', export)
    model = timm.create_model(
        'vit_small_patch16_224',
        num_classes=0,
        checkpoint_path=tmp_path / 'x.safetensors',
        **options,
    )
    images = torch.randn(2, 3, 32, 32)
    tokens = model.eval().forward_features(images)
    torch.testing.assert_close(tokens, backbone(images)[-1], atol=1e-5, rtol=1e-5)


def test_timm_model_that_is_not_there(tmp_path):
    model = timm.create_model('vit_tiny_patch16_224', depth=1, num_classes=0)
    state = {f'teacher.backbone.timm_model.{n}': t for n, t in model.state_dict().items()}
    torch.save(state, tmp_path / 'teacher.pth')
    with pytest.raises(CheckpointError, match='holds no student'):
        export_checkpoint(tmp_path / 'teacher.pth', 'timm', 'student')


SWIN = dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])


def swin(perturb, mask_token, **options):
    return perturb(MaskedSwinTransformer(arch=SWIN, mask_token=mask_token, **options))


@pytest.mark.parametrize('mask_token', [False, True])
@pytest.mark.parametrize(
    'library, size, window',
    [
        *((library, 64, 2) for library in ('mmpretrain', 'timm', 'published')),
        *((library, 128, 4) for library in ('mmpretrain', 'timm', 'published')),
        ('mmpretrain', 64, 7),  # which is padded, and smaller in late stages
        ('published', 64, 7),
    ],
)
def test_swin(library, size, window, mask_token, perturb, tmp_path):
    backbone = swin(perturb, mask_token, img_size=size, window_size=window)
    export = export_backbone(backbone, library)
    images = torch.randn(2, 3, size, size)
    if library == 'mmpretrain':
        network = mmpretrain.models.SwinTransformer(**export.target.options)
        network.load_state_dict(export.weights, strict=True)
        network.eval()
        tokens = network(images)[-1].flatten(2).transpose(1, 2)
    elif library == 'timm':
        network = timm.create_model(**export.target.options).eval()
        network.load_state_dict(export.weights, strict=True)
        tokens = network.forward_features(images).flatten(1, 2)
    if library != 'published':  # whose network no package has
        torch.testing.assert_close(tokens, backbone(images)[-1][:, 1:], atol=1e-5, rtol=1e-5)

    write_export(tmp_path / 'weights.pth', export, backbone_config(backbone))
    back, _ = rebuild_backbone(tmp_path / 'weights.pth')
    assert_equal_states(backbone.state_dict(), back.state_dict(), export.target.left_out, ())
    assert bool(export.target.left_out) == (mask_token and library != 'published')
    assert torch.equal(back(images)[-1], backbone(images)[-1])


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_swin_of_mmdet_and_mmseg_has_the_same_names(package, perturb):
    backbones = pytest.importorskip(f'{package}.models.backbones')
    weights = export_backbone(
        swin(perturb, False, img_size=64, window_size=2), 'mmpretrain'
    ).weights
    backbones.SwinTransformer(window_size=2, out_indices=(3,), **SWIN).load_state_dict(
        weights, strict=True
    )


def test_swin_is_not_for_transformers(perturb):
    with pytest.raises(CheckpointError, match='not for huggingface'):
        export_backbone(swin(perturb, False, img_size=64), 'huggingface')


def test_unknown_library():
    with pytest.raises(CheckpointError, match="'tensorflow': choose from mmpretrain, timm"):
        export_backbone(build(), 'tensorflow')
