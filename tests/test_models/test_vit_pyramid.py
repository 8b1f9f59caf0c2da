# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path

import pytest
import torch
from mmcv.ops import RoIAlign
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from torch import nn

from ibot_mm.compatibility import enable_config_inheritance
from ibot_mm.models import MaskedVisionTransformer, ViTPyramid

CONFIGS = Path(__file__).parents[2] / 'configs'
TINY = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)
VARIANTS = {
    'plain': {},
    'registers': dict(num_registers=2),
    'rotary': dict(rotary=True, num_registers=2),
    'layer scale': dict(layer_scale_init_value=0.1, drop_path_rate=0.2),
}
variants = pytest.mark.parametrize('variant', VARIANTS.values(), ids=VARIANTS)


def build(**kwargs):
    torch.manual_seed(0)
    defaults = dict(arch=TINY, out_indices=[0, 1, 2, 3], img_size=64)
    model = ViTPyramid(**(defaults | kwargs))
    model.init_weights()
    return model


@variants
@pytest.mark.parametrize('size', [(64, 64), (32, 96), (70, 50), (33, 32)], ids=str)
@pytest.mark.parametrize('patch_size', [16, 8])
def test_strides_of_images_of_any_size(size, patch_size, variant):
    padded = [-(-side // patch_size) * patch_size for side in size]
    maps = build(patch_size=patch_size, **variant)(torch.randn(2, 3, *size))
    expected = [(2, 16, *(side // stride for side in padded)) for stride in (4, 8, 16, 32)]
    assert [tuple(features.shape) for features in maps] == expected


@pytest.mark.parametrize('size', [(56, 84), (50, 70)], ids=str)
def test_strides_of_patches_of_14(size):
    """Of images padded to whole patches."""
    grid = [-(-side // 14) for side in size]
    maps = build(patch_size=14, img_size=56)(torch.randn(2, 3, *size))
    expected = [tuple(int(times * side) for side in grid) for times in (4, 2, 1, 0.5)]
    assert [tuple(features.shape[2:]) for features in maps] == expected


def test_chosen_levels_have_the_last_layers():
    with torch.device('meta'):
        model = ViTPyramid('base', out_strides=[8, 16, 32])
    assert model.out_indices == [5, 7, 11] and model.out_channels == [768] * 3
    four, three = build(), build(out_indices=[1, 2, 3], out_strides=[8, 16, 32])
    state = four.state_dict()
    for name in three.pyramid.state_dict():
        _, level, rest = name.split('.')
        state[f'pyramid.{name}'] = state[f'pyramid.levels.{int(level) + 1}.{rest}']
    three.load_state_dict(state, strict=False)
    images = torch.randn(2, 3, 64, 48)
    for features, expected in zip(three.eval()(images), four.eval()(images)[1:], strict=True):
        assert torch.equal(features, expected)


@variants
@pytest.mark.parametrize('final_norm', [False, True])
def test_class_tokens_beside_the_maps(variant, final_norm):
    options = dict(with_pyramid=False, final_norm=final_norm, **variant)
    model = build(output_cls_token=True, **options).eval()
    plain = MaskedVisionTransformer(
        arch=TINY, out_indices=[0, 1, 2, 3], img_size=64, mask_token=False, **variant
    ).eval()
    plain.load_state_dict(plain.state_dict() | model.state_dict())
    plain.final_norm = False
    images = torch.randn(2, 3, 48, 80)
    maps = build(**options).eval()(images)
    for (features, cls), expected, tokens in zip(model(images), maps, plain(images), strict=True):
        assert torch.equal(features, expected)
        torch.testing.assert_close(cls, plain.ln1(tokens[:, 0]) if final_norm else tokens[:, 0])


@pytest.mark.parametrize('norm_eval', [True, False])
def test_batch_norms_of_the_pyramid_can_stay_in_evaluation(norm_eval):
    model = build(norm_eval=norm_eval).train()
    norm = model.pyramid.levels[0][1]
    before = norm.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(norm.running_mean, before) == norm_eval
    assert model.training and norm.training != norm_eval


@variants
@pytest.mark.parametrize('final_norm', [False, True])
def test_maps_are_the_tokens_of_the_layers(variant, final_norm):
    model = build(final_norm=final_norm, with_pyramid=False, **variant).eval()
    plain = MaskedVisionTransformer(
        arch=TINY, out_indices=[0, 1, 2, 3], img_size=64, mask_token=False, **variant
    ).eval()
    state = plain.state_dict() | model.state_dict()
    plain.load_state_dict(state)
    plain.final_norm = False
    images = torch.randn(2, 3, 48, 80)
    for features, tokens in zip(model(images), plain(images), strict=True):
        patches = plain.ln1(tokens[:, 1:]) if final_norm else tokens[:, 1:]
        torch.testing.assert_close(features.flatten(2).mT, patches)
    assert final_norm == any(name.startswith('ln1') for name, _ in model.named_parameters())


def test_pyramid_follows_the_maps():
    model, plain = build().eval(), build(with_pyramid=False).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    maps = plain(images := torch.randn(2, 3, 64, 48))
    for features, expected in zip(model(images), model.pyramid(maps), strict=True):
        assert torch.equal(features, expected)
    assert torch.equal(model(images)[2], maps[2])


@pytest.mark.parametrize('with_pyramid', [True, False])
def test_regions_are_taken_from_the_right_place(with_pyramid):
    """RoIAlign of a map equals that of its contiguous copy, also behind a convolution."""
    maps = build(patch_size=8, with_pyramid=with_pyramid).eval()(torch.randn(2, 3, 64, 96))
    align, regions = RoIAlign(3, 1 / 8), torch.tensor([[0, 8.0, 8, 40, 56], [1, 40, 0, 90, 30]])
    convolution = nn.Conv2d(16, 4, 1)
    for features in (maps[1], convolution(maps[1])):
        torch.testing.assert_close(align(features, regions), align(features.clone(
            memory_format=torch.contiguous_format), regions))  # fmt: skip


def test_padding_is_zeros_at_the_right_and_bottom():
    images = torch.randn(1, 3, 70, 50)
    padded = torch.zeros(1, 3, 80, 64)
    padded[:, :, :70, :50] = images
    model = build().eval()
    for features, expected in zip(model(images), model(padded), strict=True):
        assert torch.equal(features, expected)


@variants
def test_activation_checkpointing_changes_memory_only(variant):
    gradients = []
    for with_cp in (False, True):
        model = build(with_cp=with_cp, **variant).train()
        torch.manual_seed(1)
        sum(f.square().mean() for f in model(torch.randn(2, 3, 50, 64))).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(*gradients)


def test_frozen_backbone_with_a_live_pyramid():
    model = build(frozen_stages=4, final_norm=True, drop_path_rate=0.5).train()
    images = torch.randn(2, 3, 64, 64)
    before = [tokens.clone() for tokens in model(images)][2]
    assert torch.equal(model(images)[2], before)  # no drop path
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in model.named_parameters() if 'pyramid' in name}
    assert model.pyramid.levels[0][1].training


def test_out_channels_and_layer_depth():
    model = build(final_norm=True)
    assert model.out_channels == [16] * 4
    assert build(with_pyramid=False, out_indices=[1, -1]).out_channels == [16] * 2
    for name in ('pyramid.levels.0.0.weight', 'ln1.weight'):
        assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == (5, 6)


@pytest.mark.parametrize(
    'arch, layers', [('small', [3, 5, 7, 11]), ('base', [3, 5, 7, 11]), ('large', [7, 11, 15, 23])]
)
def test_default_layers_are_the_published(arch, layers):
    with torch.device('meta'):
        assert ViTPyramid(arch).out_indices == layers


@pytest.mark.parametrize(
    'num_layers, out_strides, layers',
    [
        (4, None, [0, 1, 2, 3]),
        (5, None, [0, 1, 2, 4]),
        (6, None, [1, 2, 3, 5]),
        (4, [8, 16, 32], [1, 2, 3]),
        (3, [8, 16, 32], [0, 1, 2]),
        (1, [16], [0]),
        (12, [8, 16, 32], [5, 7, 11]),
    ],
)
def test_default_layers_follow_the_depth(num_layers, out_strides, layers):
    arch = TINY | dict(num_layers=num_layers)
    model = ViTPyramid(arch, out_strides=out_strides, img_size=64)
    assert model.out_indices == layers
    assert len(model(torch.zeros(1, 3, 64, 64))) == len(layers)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (
            dict(arch=TINY | dict(num_layers=3), out_indices=None),
            r'4 maps from 4 layers, and the network has 3: give out_strides of fewer',
        ),
        (dict(out_indices=[1, 2, 3]), r'needs 4 maps.*\[16, 16, 16\].*out_indices'),
        (dict(out_strides=[8, 16, 32]), r'needs 3 maps.*\[16, 16, 16, 16\].*out_indices'),
        (dict(with_pyramid=False, out_strides=[8, 16]), 'leave out with_pyramid=False'),
        (dict(output_cls_token=True), 'set with_pyramid=False'),
        (
            dict(output_cls_token=True, with_pyramid=False, with_cls_token=False),
            'leave with_cls_token as it is',
        ),
        (dict(out_indices=[0, 1, 2, 4]), r'out_indices=\[0, 1, 2, 4\].*4 layers'),
        (dict(patch_size=14, out_strides=[4, 8, 16, 32]), r'among \[3.5, 7, 14, 28, 56\]'),
        (dict(arch='huge'), "Unknown arch 'huge' of ViTPyramid"),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_images_too_small_for_the_pyramid():
    with pytest.raises(ValueError, match='at least 32 x 32 pixels'):
        build()(torch.randn(1, 3, 16, 64))
    with pytest.raises(ValueError, match='smaller than one patch'):
        build()(torch.randn(1, 3, 15, 64))


def tiny_detector(backbone, neck):
    cfg = Config.fromfile(CONFIGS / '_base_/models/mask_rcnn_vit.py').model
    cfg.backbone, cfg.neck = backbone, neck
    for head in (cfg.roi_head.bbox_head, cfg.roi_head.mask_head):
        head.num_classes = 3
    cfg.roi_head.bbox_head.fc_out_channels = 16
    cfg.train_cfg.rpn_proposal.max_per_img = cfg.test_cfg.rpn.max_per_img = 20
    cfg.train_cfg.rcnn.sampler.num = 8
    cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MMDET_MODELS.build(cfg)


FPN = dict(type='FPN', in_channels=[16] * 4, out_channels=256, num_outs=5)
PYRAMID_OF_MAPS = [dict(type='ibot_mm.DeconvPyramid', in_channels=16), FPN]
BACKBONE = dict(type='ibot_mm.ViTPyramid', arch=TINY, out_indices=[0, 1, 2, 3], img_size=64)
MMPRETRAIN = dict(BACKBONE, type='mmpretrain.VisionTransformer', out_type='featmap')
WINDOWED = dict(type='ibot_mm.WindowedVisionTransformer', arch=TINY, window_size=3, img_size=64)
TIMM = dict(
    type='mmpretrain.TIMMBackbone',
    model_name='vit_tiny_patch16_224',
    features_only=True,
    embed_dim=16,
    num_heads=2,
    depth=4,
    img_size=(64, 64),
    dynamic_img_size=True,
    dynamic_img_pad=True,
    out_indices=(0, 1, 2, 3),
)
OF_TIMM = dict(
    type='ibot_mm.TimmVisionTransformer',
    model_name='vit_small_patch16_dinov3',
    embed_dim=16,
    num_heads=2,
    depth=4,
    mask_token=False,
    out_type='featmap',
)
BEFORE_PYRAMID = OF_TIMM | dict(out_indices=[0, 1, 2, 3])
SIMPLE_PYRAMID = dict(type='ibot_mm.SimplePyramid', in_channels=16)


@pytest.mark.slow
@pytest.mark.parametrize(
    'backbone, neck',
    [
        (BACKBONE, FPN),
        (WINDOWED, SIMPLE_PYRAMID),
        (MMPRETRAIN, PYRAMID_OF_MAPS),
        (TIMM, PYRAMID_OF_MAPS),
        (BEFORE_PYRAMID, PYRAMID_OF_MAPS),
        (OF_TIMM, SIMPLE_PYRAMID),
        (BACKBONE | dict(num_registers=4, layer_scale_init_value=1e-5), FPN),
    ],
    ids=[
        'ViTPyramid',
        'ViTDet',
        'mmpretrain',
        "mmpretrain's timm",
        'timm',
        'timm, last map',
        'registers',
    ],
)
def test_mask_rcnn_trains_and_predicts(backbone, neck):
    torch.manual_seed(0)
    model = tiny_detector(backbone, neck).train()
    inputs = demo_mm_inputs(2, [[3, 100, 128], [3, 128, 90]], num_classes=3, with_mask=True)
    data = model.data_preprocessor(inputs, training=True)
    loss, log = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss) and {'loss_mask', 'loss_bbox', 'loss_rpn_cls'} <= log.keys()
    assert [
        name for name, p in model.named_parameters() if p.requires_grad and p.grad is None
    ] == []
    with torch.no_grad():
        results = model.eval()(**data, mode='predict')
    shapes = [tuple(result.pred_instances.masks.shape) for result in results]
    assert shapes == [(5, 100, 128), (5, 128, 90)]


@pytest.mark.parametrize(
    'backbone, neck',
    [
        (dict(BACKBONE, final_norm=True), None),
        (MMPRETRAIN, PYRAMID_OF_MAPS[:1]),
        (BEFORE_PYRAMID, PYRAMID_OF_MAPS[:1]),
    ],
    ids=['ViTPyramid', 'mmpretrain', 'timm'],
)
def test_upernet_trains_and_predicts(backbone, neck):
    enable_config_inheritance()
    cfg = Config.fromfile(CONFIGS / '_base_/models/upernet_vit.py').model
    cfg.backbone, cfg.neck = backbone, neck
    cfg.data_preprocessor.size = (64, 64)
    cfg.decode_head.update(in_channels=[16] * 4, channels=8, num_classes=3)
    cfg.auxiliary_head.update(in_channels=16, channels=8, num_classes=3)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MMSEG_MODELS.build(cfg).train()
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=torch.randint(3, (1, 64, 64)))
        samples.append(sample)
    data = dict(inputs=[torch.zeros(3, 64, 64, dtype=torch.uint8)] * 2, data_samples=samples)
    data = model.data_preprocessor(data, training=True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    loss.backward()
    assert torch.isfinite(loss)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.test_cfg = Config(dict(mode='whole'))
    results = model.eval()(**data, mode='predict')
    assert results[0].pred_sem_seg.data.shape == (1, 64, 64)
