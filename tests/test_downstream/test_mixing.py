# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The config files in docs/mixing.md: each builds, loads its weights and trains."""

import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, METRICS, MODELS, DefaultScope
from mmpretrain.structures import DataSample

from .conftest import backward, build, detection_batch, segmentation_batch

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / 'docs/mixing.md'
FILES = dict(re.findall(r'```python\n# (\S+\.py)\n(.*?)```', DOCUMENT.read_text(), re.DOTALL))
ARCH = dict(embed_dims=32, num_layers=12, num_heads=2, feedforward_channels=64)
CHANNELS = {768: 32, 3072: 128, 384: 32, 1536: 128}
QKV = 'layers.11.attn.qkv.weight'


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """All files of the document in a folder of their own."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def load(documented, save_checkpoint):
    """Read a file of the document; its backbone becomes small and has weights to load."""

    def load(name):
        cfg = Config.fromfile(documented / name)
        backbone = cfg.model.backbone
        backbone.arch = dict(ARCH)
        if backbone.get('init_cfg'):
            backbone.init_cfg.checkpoint = str(save_checkpoint(arch=ARCH, img_size=224))
        narrow(cfg.model)
        return cfg

    return load


def narrow(value):
    """Write the channels of the small backbone wherever those of ViT-S or B stand."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            narrow(item)
        elif isinstance(item, int) and item in CHANNELS:
            value[key] = CHANNELS[item]


def check_weights(model, cfg):
    """The last layer is that of the checkpoint after init_weights."""
    model.init_weights()
    stored = torch.load(cfg.model.backbone.init_cfg.checkpoint)['state_dict']
    loaded = model.backbone.get_parameter(QKV)
    torch.testing.assert_close(loaded, stored[f'teacher.backbone.{QKV}'], rtol=0, atol=0)


def test_every_file_of_the_document_is_tested():
    tested = set(re.findall(r"'([\w/]+\.py)'", Path(__file__).read_text()))
    assert set(FILES) == tested


@pytest.mark.parametrize(
    'name',
    [
        'retinanet_vit.py',
        'retinanet_plain_vit.py',
        'deformable_detr_vit.py',
        'conditional_detr_vit.py',
    ],
)
def test_detectors(name, load):
    cfg = load(name)
    if 'encoder' in cfg.model:
        cfg.model.num_queries = 20
        cfg.model.encoder.num_layers = cfg.model.decoder.num_layers = 1
    model = build(cfg)
    check_weights(model, cfg)
    losses, unused = backward(model, detection_batch(model))
    assert {'loss_cls', 'loss_bbox'} <= set(losses)
    unused = {name for name in unused if not name.startswith('decoder.')}  # Conditional DETR's own
    assert bool(unused) == cfg.get('find_unused_parameters', False)
    model.eval()
    with torch.no_grad():
        assert len(model(**detection_batch(model), mode='predict')) == 2


def shrink(cfg):
    """Make what follows the backbone of a detector small, and its norms those of one process."""
    model = cfg.model
    model.data_preprocessor.batch_augments = None  # it asks a running Runner for the iteration
    for part in (model.neck, model.bbox_head):
        part.update({key: 32 for key in ('out_channels', 'feat_channels') if key in part})
        if part.get('norm_cfg', {}).get('type') == 'SyncBN':
            part.norm_cfg.type = 'BN'
    if cfg.filename.endswith('dino_vit.py'):
        model.num_queries = 20
        model.encoder.num_layers = model.decoder.num_layers = 1
        model.neck.out_channels = 256
    else:
        model.bbox_head.in_channels = 32
        model.neck.num_csp_blocks = 1


@pytest.mark.parametrize('name', ['rtmdet_vit.py', 'yolox_vit.py', 'dino_vit.py'])
def test_detectors_with_three_levels(name, load):
    cfg = load(name)
    shrink(cfg)
    model = build(cfg)
    check_weights(model, cfg)
    assert model.backbone.pyramid.out_strides == [8, 16, 32]
    assert model.backbone.out_indices == [5, 7, 11]
    torch.testing.assert_close(
        model.data_preprocessor.mean.flatten(), torch.tensor([123.675, 116.28, 103.53])
    )
    losses, unused = backward(model, detection_batch(model))
    assert {'loss_cls', 'loss_bbox'} <= set(losses)
    assert {name for name in unused if name.startswith(('backbone', 'neck'))} == set()
    model.eval()
    with torch.no_grad():
        assert len(model(**detection_batch(model), mode='predict')) == 2


def test_dpt_gets_class_tokens_beside_the_maps(load):
    cfg = load('dpt_vit.py')
    cfg.model.backbone.img_size = 64
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.decode_head.norm_cfg = dict(type='BN')
    model = build(cfg)
    check_weights(model, cfg)
    losses, unused = backward(model, segmentation_batch(model))
    assert 'decode.loss_ce' in losses
    assert all(name.startswith('decode_head.fusion_blocks.0') for name in unused)
    assert model.backbone.cls_token.grad.abs().sum() > 0
    pairs = model.eval().backbone(torch.randn(2, 3, 64, 48))
    assert [(tuple(m.shape), tuple(c.shape)) for m, c in pairs] == [((2, 32, 4, 3), (2, 32))] * 4


def test_detector_has_the_learning_rates_of_its_depths(load):
    cfg = load('retinanet_vit.py')
    model = build(cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {p: group['lr'] for group in optimizer.param_groups for p in group['params']}
    assert rates[model.backbone.pos_embed] == pytest.approx(1e-4 * 0.75**13)
    assert rates[model.backbone.get_parameter(QKV)] == pytest.approx(1e-4 * 0.75)
    assert rates[model.bbox_head.retina_cls.weight] == 1e-4


@pytest.mark.parametrize('name', ['segmenter_vit.py', 'semantic_fpn_vit.py'])
def test_segmentors(name, load):
    cfg = load(name)
    cfg.model.backbone.img_size = 64
    cfg.model.data_preprocessor.size = (64, 64)
    if 'num_heads' in cfg.model.decode_head:
        cfg.model.decode_head.num_heads = 2
    model = build(cfg)
    check_weights(model, cfg)
    losses, unused = backward(model, segmentation_batch(model))
    assert 'decode.loss_ce' in losses and not unused


TIMM = dict(embed_dim=32, depth=12, num_heads=2)


def test_student_of_timm(documented):
    cfg = Config.fromfile(documented / 'ibot_timm.py')
    crops, masks = (cfg.train_dataloader.dataset.pipeline[step] for step in ('crops', 'masks'))
    assert (crops.global_crop_size, crops.local_crop_size, masks.patch_size) == (224, 98, 14)
    cfg.model.backbone.update(TIMM, depth=2)
    cfg.model.neck.update(in_channels=32, num_prototypes=12, hidden_channels=8)
    cfg.model.head.num_prototypes = 12
    inputs = dict(
        global_crops=torch.randn(2, 2, 3, 224, 224),
        local_crops=torch.randn(2, 1, 3, 98, 98),
        masks=torch.rand(2, 2, 16, 16) < 0.3,
    )
    model = build(cfg)
    sum(model(inputs, mode='loss').values()).backward()
    assert model.backbone.timm_model.norm.weight.grad.any()
    assert model.backbone.mask_token.grad.any()


def test_detector_on_timm(documented, tmp_path):
    cfg = Config.fromfile(documented / 'retinanet_timm.py')
    backbone = cfg.model.backbone
    student = MODELS.build(
        dict(type=backbone.type, model_name=backbone.model_name, **TIMM)
    ).state_dict()
    state = {f'teacher.backbone.{name}': torch.randn_like(t) for name, t in student.items()}
    torch.save(dict(state_dict=state), tmp_path / 'epoch_800.pth')
    backbone.update(TIMM)
    backbone.init_cfg.checkpoint = str(tmp_path / 'epoch_800.pth')
    narrow(cfg.model.neck)
    model = build(cfg)
    model.init_weights()
    name = 'timm_model.blocks.11.attn.qkv.weight'
    assert torch.equal(model.backbone.get_parameter(name), state[f'teacher.backbone.{name}'])
    losses, unused = backward(model, detection_batch(model))
    assert {'loss_cls', 'loss_bbox'} <= set(losses)
    left_out = 'neck.0.levels.0.', 'neck.1.lateral_convs.0'  # of stride 4
    assert unused and all(name.startswith(left_out) for name in unused)


def test_pre_training_of_mmpretrain(documented, image_folder, tmp_path, train):
    cfg = Config.fromfile(documented / 'mae.py')
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    cfg.model.backbone.update(arch=arch, img_size=32, patch_size=8)
    cfg.model.neck.update(
        patch_size=8, num_patches=16, embed_dim=16, decoder_embed_dim=16, decoder_depth=1,
        decoder_num_heads=2,
    )  # fmt: skip
    cfg.model.head.patch_size = 8
    cfg.train_dataloader.update(batch_size=4, num_workers=0, persistent_workers=False)
    cfg.train_dataloader.dataset.update(
        type='CustomDataset', data_root=str(image_folder), data_prefix='train'
    )
    cfg.train_dataloader.dataset.pop('split')
    cfg.train_dataloader.dataset.pipeline[1].scale = 32
    cfg.param_scheduler[0].warmup = 1
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.update(work_dir=str(tmp_path / 'work_dir'), resume=False)
    hub = train(cfg).message_hub
    assert hub.get_scalar('train/grad_norm').current() > 0
    rates = hub.get_scalar('train/lr').data[0]
    assert rates[0] < rates[1] == pytest.approx(1.5e-4 * 4096 / 256)  # warmed up in an epoch


def test_linear_probing_in_mmpretrain(documented, save_checkpoint):
    cfg = Config.fromfile(documented / 'linear_sweep.py')
    assert cfg.optim_wrapper.optimizer.lr == 64
    assert cfg.val_evaluator == dict(type='ibot_mm.SweepAccuracy')
    assert cfg.model.head.in_channels == 1536
    arch = dict(ARCH, num_layers=1)
    cfg.model.backbone.backbone.update(arch=arch, img_size=32)
    path = save_checkpoint(arch=arch, img_size=32)
    cfg.model.backbone.backbone.init_cfg.checkpoint = str(path)
    cfg.model.head.update(num_classes=3, in_channels=64)
    model = build(cfg)
    model.init_weights()
    stored = torch.load(path)['state_dict']['teacher.backbone.layers.0.attn.qkv.weight']
    assert torch.equal(model.backbone.backbone.layers[0].attn.qkv.weight, stored)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        metric, hook = METRICS.build(cfg.val_evaluator), HOOKS.build(cfg.custom_hooks[0])
    samples = [DataSample().set_gt_label(label) for label in (0, 1, 2)]
    batch = dict(inputs=torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8), data_samples=samples)
    before = model.head.weight.detach().clone()
    assert model.train_step(batch, wrapper)['loss'] > 0
    moved = (model.head.weight.detach() - before).flatten(1).norm(dim=1)
    assert moved[0] > 0 and moved.argmax() == 44  # each by its own rate
    predicted = model.eval().val_step(batch)
    metric.process(batch, [sample.to_dict() for sample in predicted])
    values = metric.evaluate(3)
    hook.after_val_epoch(SimpleNamespace(model=model), values)
    assert model.head.best_head == values['sweep/best_head'] >= 0


def test_package_of_ones_own(documented):
    assert {'mylab/registry.py', 'mylab/models.py'} <= set(FILES)
    cfg = Config.fromfile(documented / 'mylab_ibot.py')
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    cfg.model.backbone.update(arch=arch, img_size=16, patch_size=4)
    cfg.model.neck.update(in_channels=16, num_prototypes=12, hidden_channels=8)
    cfg.model.head.num_prototypes = 12
    model = build(cfg)
    assert type(model.head).__module__ == 'mylab.models'
    losses = model(
        dict(global_crops=torch.randn(2, 2, 3, 16, 16), masks=torch.rand(2, 2, 4, 4) < 0.5),
        mode='loss',
    )
    assert 'loss_patch' in losses and 'loss_cls' not in losses
    losses['loss_patch'].backward()


@pytest.mark.parametrize('name', ['linear_python.py', 'linear_python_small.py'])
def test_configs_in_pure_python(name, load):
    cfg = load(name)
    cfg.model.data_preprocessor.size = (64, 64)
    cfg.model.backbone.img_size = 64
    model = build(cfg)
    check_weights(model, cfg)
    losses, unused = backward(model, segmentation_batch(model))
    assert 'decode.loss_ce' in losses and not unused
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(optimizer).__name__ == 'OptimWrapper'


@pytest.mark.skipif(not find_spec('mmdet.configs'), reason='this mmdet has no mmdet.configs')
def test_pure_python_configs_of_mmdet(load):
    cfg = load('retinanet_python.py')
    model = build(cfg)
    losses, _ = backward(model, detection_batch(model))
    assert 'loss_bbox' in losses
