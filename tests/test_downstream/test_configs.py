# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every config of detection and segmentation resolves, builds, and says what its recipe says."""

import ast
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, METRICS, TRANSFORMS, DefaultScope

from ibot_mm.engine import ChannelCheckHook
from ibot_mm.models import SyncBatchNorm

from .conftest import CONFIGS, build

pytestmark = pytest.mark.slow

DETECTION = sorted((CONFIGS / 'det').glob('*.py'))
SEGMENTATION = sorted((CONFIGS / 'seg').glob('*.py'))

# Arch, epochs, steps of the learning rate, layer decay, drop path, images per GPU, images a step.
DETECTION_RECIPES = {
    'cascade_mask_rcnn_vits16_1x_coco': ('small', 12, [8, 11], 0.8, 0.1, 4, 32),
    'cascade_mask_rcnn_vits16_3x_coco': ('small', 36, [27, 33], 0.8, 0.1, 4, 32),
    'cascade_mask_rcnn_vitb16_1x_coco': ('base', 12, [8, 11], 0.75, 0.2, 2, 16),
    'cascade_mask_rcnn_vitb16_3x_coco': ('base', 36, [27, 33], 0.75, 0.2, 2, 16),
    'faster_rcnn_vits16_1x_coco': ('small', 12, [8, 11], 0.8, 0.1, 4, 32),
    'faster_rcnn_vitb16_1x_coco': ('base', 12, [8, 11], 0.75, 0.2, 2, 16),
    'mask_rcnn_vits16_1x_coco': ('small', 12, [8, 11], 0.8, 0.1, 4, 32),
    'mask_rcnn_vits16_3x_coco': ('small', 36, [27, 33], 0.8, 0.1, 4, 32),
    'mask_rcnn_vitb16_1x_coco': ('base', 12, [8, 11], 0.75, 0.2, 2, 16),
    'mask_rcnn_vitb16_3x_coco': ('base', 36, [27, 33], 0.75, 0.2, 2, 16),
    'mask_rcnn_vitb16_dinov2_1x_coco': ('base', 12, [8, 11], 0.75, 0.2, 2, 16),
    'mask_rcnn_vitb14_dinov2_1x_coco': ('base', 12, [8, 11], 0.75, 0.2, 2, 16),
    'mask_rcnn_vitb16_vitdet_1x_coco': ('base', 12, [8, 11], 0.75, 0.1, 2, 16),
    'mask_rcnn_vitb16_vitdet_100e_coco': ('base', 100, [89, 96], 0.7, 0.1, 2, 64),
}
# Arch, layers, crop, stride of the test, lr, layer decay, drop path, images per GPU.
SEGMENTATION_RECIPES = {
    'upernet_vits16_512_160k_ade20k': ('small', [3, 5, 7, 11], 512, 341, 3e-5, 0.65, 0.1, 4),
    'upernet_vitb16_512_160k_ade20k': ('base', [3, 5, 7, 11], 512, 341, 8e-5, 0.65, 0.1, 2),
    'upernet_vitb16_dinov2_512_160k_ade20k': ('base', [3, 5, 7, 11], 512, 341, 8e-5, 0.65, 0.1, 2),
    'upernet_vitb14_dinov2_512_160k_ade20k': ('base', [3, 5, 7, 11], 518, 345, 8e-5, 0.65, 0.1, 2),
    'upernet_vitl16_512_160k_ade20k': ('large', [7, 11, 15, 23], 512, 341, 2e-5, 0.95, 0.2, 2),
    'upernet_vitb16_640_160k_ade20k': ('base', [3, 5, 7, 11], 640, 426, 3e-5, 0.9, 0.1, 2),
    'upernet_vitl16_640_160k_ade20k': ('large', [7, 11, 15, 23], 640, 426, 2e-5, 0.95, 0.2, 2),
    'linear_vits16_512_160k_ade20k': ('small', [3, 5, 7, 11], 512, 341, 8e-4, None, 0.0, 4),
    'linear_vitb16_512_160k_ade20k': ('base', [3, 5, 7, 11], 512, 341, 8e-4, None, 0.0, 4),
    'linear_vitl16_512_160k_ade20k': ('large', [7, 11, 15, 23], 512, 341, 8e-4, None, 0.0, 4),
}
CHANNELS = {'small': 384, 'base': 768, 'large': 1024}
CHECKPOINTS = {
    'small': 'work_dirs/ibot_vits16/epoch_800.pth',
    'base': 'work_dirs/ibot_vitb16/epoch_400.pth',
    'large': 'work_dirs/ibot_vitl16/epoch_250.pth',
}
DINOV2 = 'dinov2_vitb14_reg4_pretrain.pth'
NAME = re.compile(
    r'(cascade_mask_rcnn|mask_rcnn|faster_rcnn|upernet|linear)'
    r'_(vit|vit[sbl]\d\d|swin[tb])(_w\d+|_windowed|_vitdet|_dinov2)?'
    r'((_\d{3})?_(\d+x|\d+e|\d+k))?_(demo|coco|ade20k)(_ms)?'
)


def checkpoint(name, arch):
    return DINOV2 if 'dinov2' in name else CHECKPOINTS[arch]


def named(folder, name):
    return Config.fromfile(CONFIGS / folder / f'{name}.py')


def build_on_meta(cfg):
    swin = cfg.model.get('backbone', {}).get('type') == 'SwinTransformer'  # reads numbers back
    with torch.device('cpu' if swin else 'meta'):
        return build(cfg)


@pytest.mark.parametrize('path', DETECTION + SEGMENTATION, ids=lambda path: path.stem)
def test_everything_named_in_a_config_exists(path):
    cfg = Config.fromfile(path)
    model = build_on_meta(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
            for transform in loader.dataset.pipeline:
                TRANSFORMS.build(transform)
        for hook in cfg.default_hooks.values():
            with HOOKS.switch_scope_and_registry(None) as registry:
                assert registry.get(hook.type), hook.type
        if path.stem.endswith('_ms'):
            return
        with METRICS.switch_scope_and_registry(None) as registry:
            assert registry.get(cfg.val_evaluator.type)
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    ChannelCheckHook().before_run(SimpleNamespace(model=model))
    trained = {id(p) for p in model.parameters() if p.requires_grad}
    assert trained <= {id(p) for group in optimizer.param_groups for p in group['params']}


@pytest.mark.parametrize('path', DETECTION + SEGMENTATION, ids=lambda path: path.stem)
def test_names_follow_one_rule(path):
    assert NAME.fullmatch(path.stem)


@pytest.mark.parametrize(
    'path',
    [
        *DETECTION,
        *SEGMENTATION,
        *CONFIGS.glob('_base_/*/*coco*'),
        *CONFIGS.glob('_base_/*/ade20k*'),
    ],
    ids=lambda path: path.stem,
)
def test_lists_are_built_of_named_steps(path):
    """No place in a list of another file is counted, which an edit of that file would shift."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant))


@pytest.mark.parametrize('folder, paths', [('det', DETECTION), ('seg', SEGMENTATION)])
def test_metafile_lists_every_recipe(folder, paths):
    listed = {model['Config'] for model in load(CONFIGS / folder / 'metafile.yml')['Models']}
    recipes = {path for path in paths if not re.search(r'_demo|_ms$', path.stem)}
    assert listed == {f'configs/{folder}/{path.name}' for path in recipes}


def test_every_recipe_is_tested():
    names = {path.stem for path in DETECTION + SEGMENTATION if 'vit' in path.stem}
    assert {name for name in names if 'demo' not in name and not name.endswith('_ms')} == {
        *DETECTION_RECIPES, *SEGMENTATION_RECIPES
    }  # fmt: skip


@pytest.mark.parametrize('name', DETECTION_RECIPES)
def test_detection_recipes(name):
    cfg = named('det', name)
    arch, epochs, steps, layer_decay, drop_path, per_gpu, images = DETECTION_RECIPES[name]
    model = build_on_meta(cfg)
    backbone, optimizer = cfg.model.backbone, cfg.optim_wrapper.optimizer
    warmup, decay = cfg.param_scheduler
    assert (
        (backbone.arch, cfg.train_cfg.max_epochs, decay.milestones, decay.end)
        == (arch, epochs, steps, epochs)
    )  # fmt: skip
    assert cfg.optim_wrapper.paramwise_cfg.layer_decay_rate == layer_decay
    assert backbone.drop_path_rate == drop_path
    assert cfg.train_dataloader.batch_size == per_gpu
    assert cfg.auto_scale_lr == dict(base_batch_size=images, enable=False)
    assert backbone.init_cfg == dict(type='ibot_mm.Pretrained', checkpoint=checkpoint(name, arch))
    assert cfg.default_hooks.channels.type == 'ibot_mm.ChannelCheckHook'
    assert (optimizer.type, optimizer.lr) == ('AdamW', 1e-4)
    assert optimizer.weight_decay == (0.1 if '100e' in name else 0.05)
    assert (warmup.type, warmup.end) == ('LinearLR', 250 if '100e' in name else 500)
    assert cfg.optim_wrapper.type == 'ibot_mm.AmpOptimWrapper'
    if 'vitdet' in name:
        assert model.backbone.global_indices == [2, 5, 8, 11]
        assert model.backbone.window_size == 14
    else:
        assert model.backbone.out_indices == [3, 5, 7, 11]
        assert model.backbone.out_channels == model.neck.in_channels == [CHANNELS[arch]] * 4
        grid = (48, 78) if 'vitb14' in name else (50, 63) if arch == 'small' else (42, 68)
        assert model.backbone.patch_resolution == grid
        assert isinstance(model.backbone.pyramid.levels[0][1], SyncBatchNorm)
        assert not model.backbone.final_norm


@pytest.mark.parametrize('name', ['faster_rcnn_vitb16_1x_coco', 'faster_rcnn_vit_demo'])
def test_boxes_alone_need_no_masks(name):
    cfg = named('det', name)
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == 'bbox'
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        steps = {step.type: step for step in loader.dataset.pipeline}
        assert steps['LoadAnnotations'] == dict(type='LoadAnnotations', with_bbox=True)
    assert not build_on_meta(cfg).roi_head.with_mask


def test_patches_of_14_have_strides_of_their_own():
    cfg = named('det', 'mask_rcnn_vitb14_dinov2_1x_coco')
    model = build_on_meta(cfg)
    strides = model.backbone.pyramid.out_strides
    assert strides == [3.5, 7, 14, 28]
    assert [s for s, _ in model.rpn_head.prior_generator.strides] == [*strides, 56]
    for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
        assert extractor.featmap_strides == strides
        assert [layer.spatial_scale for layer in extractor.roi_layers] == [1 / s for s in strides]
    assert model.backbone.register_tokens.shape[1] == 4


def test_cascade_has_the_published_box_heads():
    model = build_on_meta(named('det', 'cascade_mask_rcnn_vits16_1x_coco'))
    deviations = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]
    for head, expected in zip(model.roi_head.bbox_head, deviations):
        assert len(head.shared_convs) == 4 and len(head.shared_fcs) == 1
        assert all(isinstance(conv.norm, SyncBatchNorm) for conv in head.shared_convs)
        assert not head.reg_class_agnostic and head.reg_decoded_bbox
        assert (type(head.loss_bbox).__name__, head.loss_bbox.loss_weight) == ('GIoULoss', 10.0)
        assert tuple(head.bbox_coder.stds) == expected


def test_detection_is_trained_at_the_published_scales():
    pipeline = named('det', 'cascade_mask_rcnn_vitb16_1x_coco').train_dataloader.dataset.pipeline
    whole, cropped = pipeline[3].transforms
    assert [tuple(scale) for scale in whole[0].scales] == [
        (short, 1333) for short in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    ]
    assert [tuple(scale) for scale in cropped[0].scales] == [(400, 1333), (500, 1333), (600, 1333)]
    assert (cropped[1].crop_type, tuple(cropped[1].crop_size)) == ('absolute_range', (384, 600))
    assert cropped[2] == whole[0]


@pytest.mark.parametrize('name', SEGMENTATION_RECIPES)
def test_segmentation_recipes(name):
    cfg = named('seg', name)
    arch, layers, crop, stride, lr, layer_decay, drop_path, per_gpu = SEGMENTATION_RECIPES[name]
    model = build_on_meta(cfg)
    channels = CHANNELS[arch]
    warmup, decay = cfg.param_scheduler
    assert (cfg.train_cfg.max_iters, warmup.end) == (160000, 1500)
    assert (decay.type, decay.power, decay.begin, decay.end) == ('PolyLR', 1.0, 1500, 160000)
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=lr, weight_decay=0.05)
    assert cfg.optim_wrapper.get('paramwise_cfg') == (
        None if layer_decay is None else dict(layer_decay_rate=layer_decay)
    )
    assert cfg.optim_wrapper.type == 'ibot_mm.AmpOptimWrapper'
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert cfg.model.backbone.init_cfg.checkpoint == checkpoint(name, arch)
    assert cfg.train_dataloader.batch_size == per_gpu
    assert cfg.auto_scale_lr == dict(base_batch_size=16, enable=False)
    padded_from = 512 if crop == 518 else crop
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == (padded_from, padded_from)
    assert cfg.model.data_preprocessor.size == (crop, crop)
    assert cfg.model.test_cfg == dict(mode='slide', crop_size=(crop, crop), stride=(stride, stride))
    assert model.backbone.out_indices == layers and model.backbone.final_norm
    assert model.backbone.img_size == (crop, crop)
    assert model.decode_head.num_classes == 150
    if 'linear' in name:
        assert not model.with_auxiliary_head
        trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        assert trained == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
        assert model.decode_head.conv_seg.weight.shape == (150, 4 * channels, 1, 1)
    else:
        assert model.decode_head.channels == model.auxiliary_head.in_channels == channels
        assert isinstance(model.backbone.pyramid.levels[0][1], SyncBatchNorm)
        norms = [m for m in model.decode_head.modules() if isinstance(m, torch.nn.SyncBatchNorm)]
        assert not norms  # torch's own needs GPUs


@pytest.mark.parametrize('crop, scales', [
    (512, [512, 512, 512, 640, 768, 896]), (640, [640, 640, 640, 800, 960, 1120])
])  # fmt: skip
def test_multi_scale_test_wraps_the_same_model(crop, scales):
    cfg = named('seg', f'upernet_vitb16_{crop}_160k_ade20k_ms')
    assert cfg.model.type == 'SegTTAModel'
    assert cfg.model.module == named('seg', f'upernet_vitb16_{crop}_160k_ade20k').model
    resizes, flips, *_ = cfg.test_dataloader.dataset.pipeline[-1].transforms
    assert [resize.scale for resize in resizes] == scales
    assert [flip.prob for flip in flips] == [0.0, 1.0]
