# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Models of timm give timm's features, before and after a training, here and in plain timm."""

import sys
from pathlib import Path

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn

from ibot_mm.models import IBOT, TimmVisionTransformer
from ibot_mm.visualization import cls_attention

from .test_masked_backbones import FAMILIES, ONE_SIZE

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = dict(embed_dim=32, depth=2, num_heads=2)
WITH_14 = 'vit_small_patch14_reg4_dinov2'


def settings_of(name, **changes):
    return TINY | dict(img_size=56 if '14' in name else 64) | changes


def perturb(model):
    """Move every parameter from its start: biases, norms and scales too."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.1)
    return model.eval()


def without_prefix(state):
    names = (name for name in state if name.startswith('timm_model.'))
    return {name.removeprefix('timm_model.'): state[name] for name in names}


def assert_features_equal(ours, theirs, size):
    """Tokens are timm's; what stands for [CLS] without one is timm's feature of the image."""
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        tokens, features = ours(images)[-1], theirs.forward_features(images)
        cls = theirs(images) if theirs.cls_token is None else features[:, 0]
    patches = features[:, theirs.num_prefix_tokens :]
    assert patches.std() > 0.1 and patches.shape[1] > 1
    torch.testing.assert_close(tokens[:, 1:], patches, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens[:, 0], cls, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('size', ['square', 'other'])
@pytest.mark.parametrize('name', FAMILIES)
def test_features_equal_timms(name, size):
    torch.manual_seed(0)
    patch = 14 if '14' in name else 16
    size = (4 * patch, 4 * patch) if size == 'square' else (2 * patch, 5 * patch)
    settings = settings_of(name)
    any_size = {} if name in ONE_SIZE else dict(dynamic_img_size=True)
    if name in ONE_SIZE:
        settings['img_size'] = size
    ours = perturb(TimmVisionTransformer(name, mask_token=False, **settings))
    theirs = timm.create_model(name, num_classes=0, **any_size, **settings).eval()
    theirs.load_state_dict(without_prefix(ours.state_dict()), strict=True)
    assert_features_equal(ours, theirs, size)


@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_trained_here_is_timms(name):
    """Steps of the algorithm; student and teacher then go into plain timm, strictly."""
    torch.manual_seed(0)
    settings = settings_of(name)
    side = settings['img_size']
    model = IBOT(
        backbone=dict(type='ibot_mm.TimmVisionTransformer', model_name=name, **settings),
        neck=dict(type='ibot_mm.IBOTNeck', in_channels=32, num_prototypes=12, hidden_channels=8),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=12),
    )
    model.init_weights()
    start = {n: t.clone() for n, t in model.teacher.backbone.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(2):
        crops, masks = torch.randn(2, 2, 3, side, side), torch.rand(2, 2, 4, 4) < 0.4
        inputs = dict(global_crops=crops, masks=masks)
        if name not in ONE_SIZE:
            inputs['local_crops'] = torch.randn(2, 2, 3, side // 2, side // 2)
        optimizer.zero_grad()
        sum(model.train().loss(inputs).values()).backward()
        optimizer.step()
        model.update_teacher(0.7)
    model.eval()
    for backbone in (model.teacher.backbone, model.backbone):
        state = backbone.state_dict()
        assert not torch.equal(
            state['timm_model.patch_embed.proj.weight'],
            start['timm_model.patch_embed.proj.weight'],
        )
        theirs = timm.create_model(name, num_classes=0, **settings).eval()
        theirs.load_state_dict(without_prefix(state), strict=True)
        assert_features_equal(backbone, theirs, (side, side))


def test_training_by_the_config(tiny_config, train, tmp_path):
    """Through a Runner with k-NN; the stored teacher goes into timm and into a detector's maps."""
    cfg = Config.fromfile(CONFIGS / 'pretrain/ibot_timm_vits16_dinov3.py')
    tiny = dict(embed_dim=16, depth=2, num_heads=2, img_size=16, patch_size=4)
    tiny_config.model.backbone = cfg.model.backbone | tiny
    runner = train(tiny_config)
    assert runner.model.backbone.mask_token.any() and runner.model.teacher.backbone.timm_model.rope
    assert 'knn/top1_k1' in str(runner.message_hub.log_scalars.keys())

    checkpoint = str(tmp_path / 'work_dir/epoch_3.pth')
    prefix = 'teacher.backbone.timm_model.'
    stored = torch.load(checkpoint, weights_only=False)['state_dict']
    state = {n.removeprefix(prefix): t for n, t in stored.items() if n.startswith(prefix)}
    theirs = timm.create_model(cfg.model.backbone.model_name, num_classes=0, **tiny).eval()
    theirs.load_state_dict(state, strict=True)
    assert_features_equal(runner.model.teacher.backbone.eval(), theirs, (16, 16))

    init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=checkpoint)
    settings = dict(model_name=cfg.model.backbone.model_name, **tiny)
    maps = TimmVisionTransformer(
        mask_token=False, out_type='featmap', init_cfg=init_cfg, **settings
    )
    maps.init_weights()
    images = torch.randn(1, 3, 24, 16)
    features = theirs.forward_intermediates(images, [1], norm=True, intermediates_only=True)
    torch.testing.assert_close(maps.eval()(images)[0], features[0])


def test_local_crops_have_timms_position_embedding():
    """Resized, bicubic and antialiased, to the grid of the crop."""
    model = perturb(TimmVisionTransformer('vit_small_patch16_224', **settings_of('16')))
    patches = []
    model.timm_model.blocks[0].register_forward_pre_hook(lambda m, args: patches.append(args[0]))
    model(torch.zeros(1, 3, 32, 48))
    position = model.timm_model.pos_embed
    grid = position[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    resized = nn.functional.interpolate(grid, (2, 3), mode='bicubic', antialias=True)
    expected = resized.flatten(2).transpose(1, 2) + model.timm_model.patch_embed.proj.bias
    torch.testing.assert_close(patches[0][:, 1:], expected)


def test_images_are_padded_to_whole_patches():
    model = perturb(TimmVisionTransformer(WITH_14, **settings_of(WITH_14)))
    images = torch.randn(1, 3, 96, 60)
    padded = nn.functional.pad(images, (0, 10, 0, 2))
    assert torch.equal(model(images)[0], model(padded)[0])
    assert model(images)[0].shape[1] == 1 + 7 * 5


def test_weights_start_as_timms_and_init_weights_leaves_them():
    torch.manual_seed(0)
    theirs = timm.create_model('deit3_small_patch16_224', num_classes=0, **settings_of('16'))
    torch.manual_seed(0)
    model = TimmVisionTransformer('deit3_small_patch16_224', **settings_of('16'))
    model.init_weights()
    state = model.state_dict()
    assert not state['mask_token'].any()
    torch.testing.assert_close(without_prefix(state), dict(theirs.state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize('route', ['checkpoint_path', 'pretrained'])
def test_timms_own_options_of_weights(route, tmp_path):
    name, settings = 'vit_small_patch16_224', settings_of('16')
    source = perturb(timm.create_model(name, num_classes=0, **settings)).state_dict()
    path = str(tmp_path / 'weights.pth')
    torch.save(source, path)
    options = dict(checkpoint_path=path)
    if route == 'pretrained':
        options = dict(pretrained=True, pretrained_cfg_overlay=dict(file=path))
    model = TimmVisionTransformer(name, **settings, **options)
    model.init_weights()
    torch.testing.assert_close(without_prefix(model.state_dict()), source, rtol=0, atol=0)


def test_one_graph_each_for_whole_and_masked_images():
    model = perturb(TimmVisionTransformer('vit_small_patch16_dinov3', **settings_of('16')))
    images, masks = torch.randn(2, 3, 64, 64), torch.rand(2, 4, 4) < 0.4
    expected = model(images)[-1], model(images, masks)[-1]
    model.compile(backend='eager', fullgraph=True)
    torch.testing.assert_close((model(images)[-1], model(images, masks)[-1]), expected)
    torch.testing.assert_close(model(images, ~masks)[-1], model(images, ~masks)[-1])
    assert not torch.allclose(model(images, ~masks)[-1], expected[1])


@pytest.mark.parametrize(
    'name, option',
    [
        ('vit_medium_patch16_reg4_gap_256', 'fc_norm'),
        ('vit_relpos_small_patch16_224', 'fc_norm'),
        ('eva02_tiny_patch14_224', 'use_fc_norm'),
        ('beitv2_base_patch16_224', 'use_fc_norm'),
    ],
)
def test_tokens_without_final_norm_are_told_of(name, option, monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger, 'callHandlers', lambda self, record: said.append(record.msg))
    MMLogger.get_instance('timm')
    model = TimmVisionTransformer(name, **settings_of(name))
    assert f'{option}=False' in said[0] and name in said[0]
    trained = {p.requires_grad for p in model.timm_model.fc_norm.parameters()}
    assert trained == {not model.with_cls_token}
    said.clear()
    model = TimmVisionTransformer(name, **settings_of(name), **{option: False})
    assert not said and model.timm_model.norm.weight.requires_grad
    assert not isinstance(model.timm_model.norm, nn.Identity)


@pytest.mark.parametrize(
    'name, message',
    [
        ('vit_small_patch16_255', r"has no model 'vit_small_patch16_255'; near are .*patch16_224"),
        ('vit_smal_patch16_dinov3.lvd1689m', r'near are vit_small_patch16_dinov3'),
        ('zzz', r"no model 'zzz': see timm.list_models"),
        ('some/folder', r'looks like a Hugging Face Hub repo id'),
        ('resnet50', r'ResNet is convolutional or hierarchical, with maps of strides \[2, 4'),
        ('swin_tiny_patch4_window7_224', 'SwinTransformer is .* ibot_mm.MaskedSwinTransformer'),
        ('vit_base_r50_s16_224', r'convolutions \(HybridEmbed\) and overlap.* show in its'),
        ('xcit_nano_12_p8_224', 'Xcit treats its patches in another way'),
        ('mixer_s16_224', 'MlpMixer treats its patches in another'),
        ('cait_xxs24_224', 'Cait treats its patches in another way than .* VisionTransformer, Eva'),
    ],
)
def test_models_that_cannot_serve(name, message):
    with pytest.raises(ValueError, match=message):
        TimmVisionTransformer(name)


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(out_type='maps'), r"out_type must be one of .*'featmap'.* got 'maps'"),
        (dict(out_indices=[0, 2]), r'out_indices=\[0, 2\] of a network with 2 layers'),
        (dict(frozen_stages=3), 'frozen_stages must be between -1 .* and 2 .* got 3'),
        (dict(patch_drop_rate=0.5), 'patch_drop_rate drops patches that the loss reads'),
        (dict(model_name='vit_base_patch16_gap_224', global_pool=''), "set global_pool='avg'"),
    ],
)
def test_bad_options(options, message):
    settings = dict(model_name='vit_small_patch16_224') | settings_of('16') | options
    with pytest.raises(ValueError, match=message):
        TimmVisionTransformer(**settings)


@pytest.mark.parametrize('name', sorted(ONE_SIZE))
def test_families_of_one_size_say_so(name):
    model = TimmVisionTransformer(name, **settings_of(name))
    with pytest.raises(ValueError, match=r'images of \(64, 64\) pixels only, got \(32, 64\)'):
        model(torch.zeros(1, 3, 32, 64))


@pytest.mark.parametrize('out_indices', [[0], [1]])
@pytest.mark.parametrize('final_norm', [True, False])
@pytest.mark.parametrize('out_type', ['raw', 'featmap'])
@pytest.mark.parametrize('name', FAMILIES)
def test_all_that_is_trained_has_a_gradient(name, out_type, final_norm, out_indices):
    """Distributed training waits for each parameter that needs one."""
    model = TimmVisionTransformer(
        name,
        mask_token=False,
        out_type=out_type,
        final_norm=final_norm,
        out_indices=out_indices,
        **settings_of(name),
    )
    side = settings_of(name)['img_size']
    model(torch.randn(1, 3, side, side))[0].square().sum().backward()
    trained = {n: p.grad is not None for n, p in model.named_parameters() if p.requires_grad}
    assert all(trained.values()), trained
    last = out_indices == [1]
    assert any('blocks.1.' in n for n in trained) == last
    assert not any(n.startswith('timm_model.norm.') for n in trained) or (final_norm and last)


def test_timm_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ImportError, match='vit_small_patch16_224.* pip install timm'):
        TimmVisionTransformer('vit_small_patch16_224')


def test_timm_is_too_old(monkeypatch):
    monkeypatch.setattr(timm, '__version__', '1.0.9')
    with pytest.raises(ImportError, match=r'timm 1.0.9 is older than 1.0.21: pip install'):
        TimmVisionTransformer('vit_small_patch16_224')


@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize(
    'name', ['vit_small_patch16_224', 'vit_small_patch16_rope_224', 'beit_base_patch16_224']
)
def test_attention_maps(name, fused):
    """Of positions added, rotary, and as a bias of the attention."""
    images = torch.randn(2, 3, 64, 64)
    model = perturb(TimmVisionTransformer(name, **settings_of('16')))
    attention, caught = model.timm_model.blocks[-1].attn, []
    attention.fused_attn = False
    hook = attention.attn_drop.register_forward_hook(lambda *args: caught.append(args[-1]))
    model(images)
    hook.remove()
    attention.fused_attn = fused
    maps = cls_attention(model, images)
    torch.testing.assert_close(maps.flatten(2), caught[0][:, :, 0, 1:])
    assert maps.std() > 1e-4
