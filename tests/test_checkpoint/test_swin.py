# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of a pre-trained Swin in the networks of mmdet, mmseg and mmpretrain."""

import argparse
import importlib
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from timm.models.swin_transformer import SwinTransformer as TimmSwin
from torch import nn

from ibot_mm.checkpoint import (
    Checkpoint,
    CheckpointError,
    LoadReport,
    Pretrained,
    backbone_config,
    export_backbone,
    load_weights,
    rebuild_backbone,
    to_unfold_order,
    write_weights,
)
from ibot_mm.checkpoint.formats.swin import swin_format_of
from ibot_mm.models import MaskedSwinTransformer

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / 'configs'
ARCH = dict(embed_dims=8, depths=[2, 2, 2, 2], num_heads=[1, 1, 2, 2])
EPS = dict(type='LN', eps=1e-6)
TABLE = 'layers.0.blocks.0.attn.relative_position_bias_table'
PACKAGES = ['mmdet', 'mmseg', 'mmpretrain']


def randomize(model):
    torch.manual_seed(0)
    for parameter in model.parameters():  # norms and biases too
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.2)
    return model.eval()


def ours(**kwargs):
    """A network that shifts windows in every stage, as mmdet and mmseg do."""
    return randomize(MaskedSwinTransformer(arch=ARCH, **(dict(img_size=512) | kwargs)))


def theirs(package, window_size=7, **kwargs):
    backbone = importlib.import_module(f'{package}.models.backbones').SwinTransformer
    settings = dict(window_size=window_size, out_indices=(0, 1, 2, 3), norm_cfg=EPS) | kwargs
    if package == 'mmpretrain':
        norms = dict(block_cfgs=dict(norm_cfg=EPS), downsample_cfg=dict(norm_cfg=EPS))
        settings |= dict(
            arch=ARCH, patch_cfg=dict(norm_cfg=EPS), stage_cfgs=norms, pad_small_map=True
        )
    else:
        settings |= ARCH
    model = backbone(**settings)
    model.eval()  # returns None
    return model


def published(network):
    """A network of ours as the published code stores it."""
    last = f'norm{network.num_layers - 1}.'
    state = {}
    for name, tensor in network.state_dict().items():
        if '.downsample.' in name:
            tensor = tensor.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)
        for own, theirs in (
            (last, 'norm.'),
            ('stages.', 'layers.'),
            ('.w_msa.', '.'),
            ('.projection.', '.proj.'),
            ('.ffn.layers.0.0.', '.mlp.fc1.'),
            ('.ffn.layers.1.', '.mlp.fc2.'),
            ('mask_token', 'masked_embed'),
        ):
            name = name.replace(own, theirs)
        state[name] = tensor
    return state


def load(model, state, **kwargs):
    """Whatever is not there can only be what no pre-training gives."""
    report = load_weights(model, Checkpoint('x.pth', state), **kwargs)
    assert not report.unexpected and not report.missing
    assert all(name.startswith(('norm0.', 'norm1.', 'norm2.')) for name in report.new)


def stage_outputs(model, images):
    """Maps of all stages under a norm without parameters, but for the last stage's own."""
    maps = []
    for stage in model.stages[:-1]:
        stage.blocks[-1].register_forward_hook(lambda m, args, out: maps.append((out, args[1])))
    tokens = model(images)[-1][:, 1:]
    maps = [(F.layer_norm(x, x.shape[-1:], eps=1e-6), grid) for x, grid in maps]
    last = [-(-size // 2) for size in maps[-1][1]]
    return [x.transpose(1, 2).unflatten(2, tuple(g)) for x, g in [*maps, (tokens, last)]]


@pytest.mark.parametrize('size', [(64, 64), (112, 60), (36, 232)], ids=str)
@pytest.mark.parametrize('package', PACKAGES)
def test_features_are_equal_at_every_stage(package, size):
    """Padding too: no size here is a multiple of the windows in all stages."""
    network = ours()
    checkpoint = {f'state_dict.teacher.backbone.{n}': t for n, t in network.state_dict().items()}
    checkpoint |= {n.replace('teacher.', ''): torch.zeros_like(t) for n, t in checkpoint.items()}
    model, images = theirs(package), torch.randn(2, 3, *size)
    load(model, checkpoint)
    for own, expected in zip(model(images), stage_outputs(network, images), strict=True):
        torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('prefix', ['teacher.', 'teacher.module.', None], ids=str)
@pytest.mark.parametrize('package', PACKAGES)
def test_published_weights_give_the_published_features(package, prefix):
    """timm has the published network where nothing is padded; `always_partition` shifts always."""
    network = randomize(
        TimmSwin(
            window_size=2,
            embed_dim=8,
            depths=ARCH['depths'],
            num_heads=ARCH['num_heads'],
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_classes=0,
            strict_img_size=False,
            always_partition=True,
        )
    )
    checkpoint = {}
    for name, tensor in network.state_dict().items():
        parts = name.split('.')
        if 'downsample' in parts:  # timm keeps the merging with the stage that follows
            parts[1] = str(int(parts[1]) - 1)
        published = '.'.join(parts)
        if prefix is None:  # a bare backbone
            checkpoint[f'state_dict.{published}'] = tensor
        else:
            checkpoint[f'{prefix}backbone.{published}'] = tensor
            checkpoint[f'student.module.backbone.{published}'] = torch.zeros_like(tensor)
    checkpoint |= {'student.module.backbone.masked_embed': torch.zeros(1, 8)} if prefix else {}
    model, images = theirs(package, window_size=2), torch.randn(2, 3, 128, 64)
    load(model, checkpoint)
    expected = network.forward_features(images).permute(0, 3, 1, 2)
    torch.testing.assert_close(model(images)[-1], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_tables_are_resized_as_mmdet_and_mmseg_do(package, tmp_path):
    """Windows of 14 were 7 in the last stage of the pre-training: mmdet has 14 everywhere."""
    source = ours(img_size=224, window_size=14)
    state = {f'backbone.{n}': t for n, t in source.state_dict().items()}
    learned = {n: t for n, t in state.items() if not n.endswith(('_index', 'mask_token'))}
    file = tmp_path / 'converted.pth'
    torch.save(dict(state_dict=learned), file)
    expected = theirs(package, window_size=14)
    expected.init_cfg = ConfigDict(type='Pretrained', checkpoint=str(file))
    expected.init_weights()
    model = theirs(package, window_size=14)
    load(model, state)
    name = 'stages.3.blocks.0.attn.w_msa.relative_position_bias_table'
    assert state[f'backbone.{name}'].shape == (13**2, 2)
    assert model.state_dict()[name].shape == (27**2, 2)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


class Detector(BaseModule):
    """Stands for a detector or segmentor."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize('package', PACKAGES)
def test_initializer_has_the_last_word(package, tmp_path):
    """Neither the backbone's own ``init_weights`` nor its children's draw the weights anew."""
    network = ours(img_size=224, window_size=14)
    teacher = {f'backbone.{name}': tensor for name, tensor in published(network).items()}
    student = {f'module.{name}': torch.zeros_like(tensor) for name, tensor in teacher.items()}
    file = tmp_path / 'checkpoint.pth'
    torch.save(dict(student=student, teacher=teacher, args=argparse.Namespace(lr=1.0)), file)
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=str(file))
    model = Detector(theirs(package, window_size=14, init_cfg=init_cfg))
    model.init_weights()
    weights = model.backbone.state_dict()
    expected = {n: t for n, t in network.state_dict().items() if not n.endswith('position_index')}
    del expected['mask_token']
    for name, tensor in expected.items():
        if name.startswith('stages.3.') and name.endswith('bias_table'):
            assert weights[name].shape == (27**2, 2) and weights[name].std() > 0.1
        else:
            assert torch.equal(weights[name], tensor), name


def test_initializer_fills_a_backbone_of_ours(tmp_path):
    network = ours()
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'weights.pth')
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    model = MaskedSwinTransformer(arch=ARCH, img_size=512, init_cfg=init_cfg)
    model.init_weights()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(model.eval()(images)[-1], network(images)[-1])


@pytest.mark.parametrize(
    'name',
    ['det/cascade_mask_rcnn_swint_w7_1x_coco', 'seg/upernet_swint_w7_512_160k_ade20k'],
)
def test_downstream_configs_start_from_a_pre_training(name, tmp_path):
    network = ours()
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'weights.pth')
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert (cfg.model.backbone.embed_dims, cfg.model.backbone.window_size) == (96, 7)
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path / 'weights.pth')
    cfg.model.backbone.update(ARCH)
    for part in (cfg.model.get('neck'), cfg.model.get('decode_head')):
        if part:
            part.in_channels = [8, 16, 32, 64]
    if cfg.model.get('auxiliary_head'):
        cfg.model.auxiliary_head.in_channels = 32
    model = importlib.import_module(f'{cfg.default_scope}.registry').MODELS.build(cfg.model)
    model.init_weights()
    model.eval()
    images = torch.randn(1, 3, 64, 96)
    last = network(images)[-1][:, 1:].transpose(1, 2).unflatten(2, (2, 3))
    torch.testing.assert_close(model.backbone(images)[-1], last, atol=1e-5, rtol=1e-5)
    assert len(model.extract_feat(images)) == (5 if name.startswith('det') else 4)


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(depths=[2, 2, 1, 2]), r'(?s)unexpected.*arch of the pre-training.*strict=False'),
        (dict(depths=[2, 2, 4, 2]), r'(?s)missing.*arch of the pre-training.*strict=False'),
        (dict(embed_dims=16), r'(?s)missing.*unexpected.*arch of the pre-training'),
    ],
)
def test_initializer_refuses_another_network(settings, message, tmp_path):
    from mmdet.models.backbones import SwinTransformer

    torch.save(dict(state_dict=ours().state_dict()), tmp_path / 'weights.pth')
    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=str(tmp_path / 'weights.pth'))
    with pytest.raises(CheckpointError, match=message):
        Detector(SwinTransformer(**(ARCH | settings), init_cfg=init_cfg)).init_weights()
    if 'depths' in settings:
        init_cfg['strict'] = False
        Detector(SwinTransformer(**(ARCH | settings), init_cfg=init_cfg)).init_weights()


def test_initializer_tells_of_another_eps(tmp_path):
    from mmdet.models.backbones import SwinTransformer

    torch.save(dict(state_dict=ours().state_dict()), tmp_path / 'weights.pth')
    initializer = Pretrained(str(tmp_path / 'weights.pth'))
    logged = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LoadReport, 'log', lambda report: logged.append(report))
        initializer(SwinTransformer(**ARCH))
        initializer(theirs('mmdet'))
    assert 'eps=1e-6' in str(logged[0]) and not logged[1].notes
    assert [len(report.missing) for report in logged] == [0, 0]


def test_every_stage_count_names_its_last_norm():
    names = [
        f'backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table' for stage in (2, 10)
    ]
    assert 'norm10.{leaf}' in [row.ours for row in swin_format_of(names).rows]
    assert swin_format_of(['backbone.blocks.0.norm1.weight']) is None


def test_only_patch_merging_is_reordered():
    """Two channels: neighbors (0, 0), (1, 0), (0, 1), (1, 1) become rows of each channel."""
    name, other = 'backbone.layers.0.downsample.norm.weight', 'backbone.norm.weight'
    reordered = to_unfold_order({name: torch.arange(8), other: torch.arange(8)})
    assert reordered[name].tolist() == [0, 4, 2, 6, 1, 5, 3, 7]
    assert reordered[other].tolist() == list(range(8))


@pytest.mark.parametrize(
    'names, network, message',
    [
        (['backbone.layer1.0.conv1.weight'], 'teacher', 'it holds a ResNet'),
        (['teacher.patch_embed.proj.weight', f'teacher.{TABLE}'], 'student', 'holds no student'),
        (['patch_embed.proj.weight', 'blocks.0.norm1.weight'], 'teacher', 'no ViT of a known'),
        (['patch_embed.proj.weight', TABLE], 'pupil', "'pupil'"),
    ],
)
def test_what_cannot_be_converted(names, network, message):
    checkpoint = Checkpoint('x.pth', {name: torch.zeros(1) for name in names})
    with pytest.raises(CheckpointError, match=message):
        load_weights(ours(), checkpoint, network)


def test_unknown_names():
    state = published(ours()) | {'layers.0.blocks.0.what.weight': torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r'unexpected layers\.0\.blocks\.0\.what\.weight'):
        load_weights(ours(), Checkpoint('x.pth', state))


def small(**options):
    arch = dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2])
    return MaskedSwinTransformer(arch=arch, window_size=4, **(dict(img_size=32) | options)).eval()


@pytest.mark.parametrize(
    'options, how',
    [
        (dict(in_channels=4), 'from RGB to 4 channels, repeated in turn and scaled by 3/4'),
        (dict(patch_size=2, img_size=16), 'from 4 x 4 to 2 x 2 pixels'),
    ],
    ids=str,
)
def test_patches_are_adapted_as_those_of_a_vit(options, how, tmp_path):
    torch.save(small().state_dict(), tmp_path / 'weights.pth')
    report = load_weights(small(**options), tmp_path / 'weights.pth')
    assert report.resized == {'patch_embed.projection.weight': how}


def test_activation_that_no_swin_here_has_is_refused(tmp_path):
    config = transformers.SwinConfig(
        image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4,
        hidden_act='relu',
    )  # fmt: skip
    transformers.SwinModel(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match='has relu, that of ibot_mm.MaskedSwin.* gelu'):
        rebuild_backbone(tmp_path)
    with pytest.raises(CheckpointError, match='relu in the feed-forward network, the backbone ge'):
        load_weights(small(), tmp_path)


def test_windows_that_are_not_square(tmp_path):
    state = small().state_dict()
    name = 'stages.0.blocks.0.attn.w_msa.relative_position_bias_table'
    torch.save(state | {name: torch.zeros(7 * 15, 1)}, tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match=f'missing {name}'):
        load_weights(small(), tmp_path / 'weights.pth')


def test_what_is_assumed_is_checked(tmp_path):
    torch.save(small().state_dict(), tmp_path / 'weights.pth')
    with pytest.raises(CheckpointError, match="assume has no 'heads': it tells num_heads"):
        load_weights(small(), tmp_path / 'weights.pth', assume=dict(heads=3))


def test_eps_comes_back_and_goes_out(tmp_path):
    source = small(norm_cfg=dict(type='LN', eps=1e-5))
    config = backbone_config(source)
    write_weights(tmp_path / 'x.pth', source.state_dict(), dict(cfg=config))
    backbone, _ = rebuild_backbone(tmp_path / 'x.pth')
    assert {m.eps for m in backbone.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}
    assert 'eps=1e-05' in export_backbone(backbone, 'timm').target.usage
    assert "'eps': 1e-05" in export_backbone(backbone, 'mmpretrain').target.usage
    with pytest.raises(CheckpointError, match='norms with an eps of 1e-06, and these 1e-05'):
        export_backbone(backbone, 'published')
