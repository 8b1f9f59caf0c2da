# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is said about a checkpoint."""

import sys

import pytest
import timm
import torch

from ibot_mm import compatibility
from ibot_mm.checkpoint import CheckpointError, backbone_config, verify, verify_checkpoint
from ibot_mm.models import MaskedSwinTransformer, TimmVisionTransformer

pytestmark = pytest.mark.slow

ARCH = 'arch=dict(embed_dims=32, num_layers=2, num_heads={}, feedforward_channels=64)'
CONFIGS = {
    'pretrain/vit': f"type='ibot_mm.MaskedVisionTransformer', img_size=32, {ARCH.format(2)}",
    'pretrain/heads': f"type='ibot_mm.MaskedVisionTransformer', img_size=32, {ARCH.format(4)}",
    'pretrain/timm': "type='ibot_mm.TimmVisionTransformer', model_name='eva02_tiny_patch14_224', "
    'embed_dim=24, depth=2, num_heads=2, img_size=28',
    'pretrain/base': "type='ibot_mm.MaskedVisionTransformer', arch='base'",
    'det/vit': f"type='ibot_mm.ViTPyramid', img_size=(40, 64), {ARCH.format(2)}, "
    'out_indices=[0, 0 + 1], with_pyramid=False',
    'pretrain/swin': "type='ibot_mm.MaskedSwinTransformer', img_size=64, window_size=2, "
    'arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])',
}
SWIN = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])


@pytest.fixture(autouse=True)
def configs(tmp_path, monkeypatch):
    """A few small configs in place of this project's."""
    for name, backbone in CONFIGS.items():
        path = tmp_path / f'configs/{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        patch = '' if 'Swin' in backbone or 'Timm' in backbone else 'patch_size=8, '
        path.write_text(f'model = dict(backbone=dict({patch}{backbone}))\n')
    (tmp_path / 'configs/pretrain/empty.py').write_text('model = dict(head=1)\n')
    monkeypatch.setattr(verify, 'CONFIGS', tmp_path / 'configs')
    verify.backbone_configs.cache_clear()
    yield
    verify.backbone_configs.cache_clear()


@pytest.fixture
def training(backbone):
    """A checkpoint of a pre-training: student, teacher, heads, config."""
    student, teacher = backbone(mask_token=True), backbone()
    state = {f'backbone.{n}': t for n, t in student.state_dict().items()}
    state |= {f'teacher.backbone.{n}': t for n, t in teacher.state_dict().items()}
    state |= {'neck.layers.0.weight': torch.zeros(2), 'teacher.neck.x': torch.zeros(2)}
    return dict(state_dict=state, meta=dict(cfg=backbone_config(student)))


def test_training(training, save):
    verification = verify_checkpoint(save(training))
    assert verification.is_sound
    student, teacher = verification.networks
    assert (student.facts['role'], teacher.facts['role']) == ('student', 'teacher')
    assert (student.prefix, teacher.prefix) == (
        'state_dict.backbone.',
        'state_dict.teacher.backbone.',
    )
    assert student.facts == dict(
        role='student',
        family='ibot_mm and mmpretrain',
        patch='8 x 8',
        width='32, 64 in the feed-forward network',
        depth='2',
        heads='2, by the config in the file',
        activation='gelu, by the config in the file',
        positions='learned, 4 x 4 patches',
        extras='mask token',
        parameters=f'{sum(t.numel() for n, t in training["state_dict"].items() if n[0] == "b"):,}, '
        'float32',
    )
    assert teacher.facts['extras'] == 'none'
    assert teacher.fits == {
        'det/vit': 'resized: 4 x 4 to 5 x 8 patches',
        'pretrain/vit': '',
    }
    assert verification.beside == {'neck': 1, 'teacher.neck': 1}
    text = str(verification)
    assert "'state_dict.teacher.backbone.*'" in text and 'missing      nothing' in text
    assert 'neck (1)' in text and 'det/vit (resized' in text


def test_heads_that_nothing_tells(training, save):
    del training['meta']
    network = verify_checkpoint(save(training)).networks[0]
    assert network.facts['heads'] == 'unknown, not told by weights'
    assert set(network.fits) == {'det/vit', 'pretrain/heads', 'pretrain/vit'}


def test_faults(training, save):
    state = training['state_dict']
    state['backbone.layers.1.ln1.weight'][:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    state['neck.layers.0.weight'][0] = torch.nan
    del state['teacher.backbone.layers.0.ln2.bias']
    state['teacher.backbone.layers.0.what'] = torch.zeros(1)
    verification = verify_checkpoint(save(training))
    assert not verification.is_sound
    assert verification.not_finite == {
        'state_dict.backbone.layers.1.ln1.weight': '1 nan, 2 infinite, of 32',
        'state_dict.neck.layers.0.weight': '1 nan, 0 infinite, of 2',
    }
    student, teacher = verification.networks
    assert not student.missing and student.fits
    assert teacher.missing == ['layers.0.ln2.bias'] and teacher.unexpected == ['layers.0.what']
    assert not teacher.fits
    text = str(verification)
    assert 'missing      layers.0.ln2.bias' in text and 'no config of this project' in text


def test_one_network_without_a_name(backbone, save):
    network = verify_checkpoint(save(backbone().state_dict())).networks[0]
    assert network.facts['role'] == 'not told' and network.prefix == ''
    network = verify_checkpoint(save(backbone(mask_token=True).state_dict())).networks[0]
    assert network.facts['role'] == 'not told, but it has a mask token, as students have'


@pytest.mark.parametrize(
    'options, extras, positions',
    [
        (
            dict(num_registers=4, layer_scale_init_value=0.1),
            'layer scale, 4 registers',
            'learned, 4 x 4 patches',
        ),
        (dict(rotary=True), 'none', 'rotary'),
        (dict(pre_norm=True, final_norm=False), 'norm before the layers, no final norm', 'learned'),
        (dict(with_cls_token=False, qkv_bias=False), 'no [CLS] token, no biases', 'learned'),
        (
            dict(layer_cfgs=dict(ffn_type='swiglu_fused'), arch=dict(feedforward_channels=96)),
            'SwiGLU',
            'learned',
        ),
    ],
)
def test_extras(options, extras, positions, backbone, save):
    facts = verify_checkpoint(save(backbone(**options).state_dict())).networks[0].facts
    assert facts['positions'].startswith(positions) and facts['extras'].startswith(extras)


def test_networks_that_no_backbone_here_takes(save):
    small = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, img_size=32)
    beit = timm.models.Beit(use_rel_pos_bias=True, use_abs_pos_emb=False, **small)
    deit = timm.models.deit.VisionTransformerDistilled(**small)
    for model, positions, extras, why in (
        (beit, 'relative', 'no final norm', 'only mmpretrain.BEiTViT'),
        (deit, 'learned, 4 x 4 patches', 'distillation token', 'has a distillation token'),
    ):
        verification = verify_checkpoint(save(model.state_dict()))
        network = verification.networks[0]
        assert (network.facts['positions'], network.facts['extras']) == (positions, extras)
        assert not verification.is_sound and why in ' '.join(network.differences)
        assert not network.fits and why in str(verification)


TIMM = dict(model_name='eva02_tiny_patch14_224', embed_dim=24, depth=2, num_heads=2, img_size=28)


def test_training_of_a_timm_model(save):
    """Under timm's own names, of a family that no table here has."""
    model = TimmVisionTransformer(**TIMM)
    state = {f'backbone.{n}': t for n, t in model.state_dict().items()}
    state |= {f'teacher.{n}': t for n, t in state.items() if 'mask_token' not in n}
    backbone = dict(type='ibot_mm.TimmVisionTransformer', pretrained=True, **TIMM)
    content = dict(state_dict=state, meta=dict(cfg=f'model = dict(backbone={backbone})'))
    verification = verify_checkpoint(save(content))
    assert verification.is_sound
    student, teacher = verification.networks
    assert (student.facts['role'], teacher.facts['role']) == ('student', 'teacher')
    assert student.facts['family'] == "timm's eva02_tiny_patch14_224"
    assert (student.facts['width'], student.facts['depth']) == ('24', '2')
    assert student.fits == {'pretrain/timm': ''}
    del state['backbone.timm_model.blocks.1.norm2.weight']
    student = verify_checkpoint(save(content)).networks[0]
    assert student.missing == ['blocks.1.norm2.weight'] and not student.fits
    del content['meta']
    student = verify_checkpoint(save(content)).networks[0]
    assert 'which one is not told' in student.facts['family'] and not student.missing


@pytest.mark.parametrize('prefix', ['', 'teacher.backbone.'])
def test_swin(prefix, save):
    source = MaskedSwinTransformer(arch=SWIN, img_size=64, window_size=2)
    state = {prefix + n: t for n, t in source.state_dict().items()}
    verification = verify_checkpoint(save(state))
    network = verification.networks[0]
    assert verification.is_sound and not verification.beside
    assert network.facts['role'] == ('teacher' if prefix else 'not told')
    assert network.facts['heads'] == '[1, 1, 1, 1], by the tables of relative positions'
    assert network.facts['windows'] == '2' and network.facts['extras'] == 'mask token'
    assert network.fits == {'pretrain/swin': ''}


def test_incomplete_swin(save):
    state = MaskedSwinTransformer(arch=SWIN, img_size=64, window_size=2).state_dict()
    del state['stages.1.blocks.0.norm2.bias']
    verification = verify_checkpoint(save(state))
    assert verification.networks[0].missing == ['stages.1.blocks.0.norm2.bias']
    assert not verification.is_sound and not verification.networks[0].fits
    del state['stages.1.blocks.0.attn.w_msa.relative_position_bias_table']
    assert 'not complete' in verify_checkpoint(save(state)).networks[0].differences[0]


def test_configs_that_cannot_be_read_here_are_named(training, save, monkeypatch):
    load = compatibility.load_config

    def without_mmdet(path):
        if path.parent.name == 'det':
            raise ImportError(f'{path} needs mmdet, which is not installed.\nAdvice')
        return load(path)

    monkeypatch.setattr(compatibility, 'load_config', without_mmdet)
    verification = verify_checkpoint(save(training))
    assert verification.not_compared['det/vit'].endswith('needs mmdet, which is not installed.')
    assert 'not compared' in str(verification)


@pytest.mark.parametrize(
    'content, message',
    [
        ({'layer1.0.conv1.weight': torch.zeros(2)}, 'it holds a ResNet'),
        (dict(optimizer=dict(a=torch.zeros(1))), 'holds no weights of a network'),
        (dict(fc=torch.zeros(2)), 'it holds no ViT of a known format'),
    ],
)
def test_bad_files(content, message, save):
    with pytest.raises(CheckpointError, match=message):
        verify_checkpoint(save(content))


def test_every_config_of_this_project_is_compared(monkeypatch):
    monkeypatch.undo()
    verify.backbone_configs.cache_clear()
    found, unread = verify.backbone_configs()
    assert not unread and {name.split('/')[0] for name in found} >= {'pretrain', 'det', 'seg'}
    for backbone in {repr(b): b for b in found.values()}.values():
        assert verify._build(backbone) is not None


def test_where_timm_is_missing(training, save, monkeypatch):
    """Configs with a model of timm are named as not compared, and all else is said."""
    monkeypatch.setitem(sys.modules, 'timm', None)
    verification = verify_checkpoint(save(training))
    assert verification.is_sound and 'pretrain/vit' in verification.networks[1].fits
    assert 'pip install timm' in verification.not_compared['pretrain/timm']


def test_what_is_unclear_is_not_sound(save):
    options = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2, img_size=32)
    clip = timm.models.VisionTransformer(pre_norm=True, **options)
    verification = verify_checkpoint(save(clip.state_dict()))
    (network,) = verification.networks
    assert not verification.is_sound and 'say it by assume' in network.differences[0]
    assert network.facts['activation'] == 'unclear: must be told'
