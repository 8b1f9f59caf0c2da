# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Mask R-CNN and UperNet start from weights that other libraries' own classes made, and train."""

from functools import partial
from pathlib import Path

import pytest
import torch
import transformers
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn
from transformers_classes import classes_of

from ibot_mm.checkpoint import CheckpointError
from ibot_mm.models import MaskedVisionTransformer

from .conftest import CONFIGS, build, detection_batch, segmentation_batch

pytestmark = pytest.mark.slow

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=128)
SIZES = dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=2)


def network(kind: str, **config) -> nn.Module:
    """Build a network of transformers with random weights, or skip where it is not there."""
    configuration, model = classes_of(kind)
    return model(configuration(**SIZES | config))


DINOV2 = partial(
    network,
    'Dinov2WithRegisters',
    mlp_ratio=4,
    patch_size=14,
    image_size=70,
    num_register_tokens=4,
)
DINOV3 = partial(
    network,
    'DINOv3ViT',
    intermediate_size=128,
    patch_size=16,
    image_size=64,
    num_register_tokens=4,
)
CLIP = partial(network, 'CLIPVision', intermediate_size=128, patch_size=16, image_size=64)
SAM = partial(
    network, 'SamVision', mlp_dim=128, image_size=64, window_size=2, global_attn_indexes=[1, 3]
)
VITDET = partial(
    network,
    'VitDet',
    image_size=64,
    pretrain_image_size=64,
    window_size=2,
    window_block_indices=[0, 2],
    use_relative_position_embeddings=True,
)
SWIN = partial(
    transformers.SwinModel,
    transformers.SwinConfig(
        embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=7, image_size=224
    ),
)
OPTIONS = {
    'dinov2': dict(img_size=70),
    'dinov3': dict(
        img_size=64,
        rotary=True,
        num_registers=4,
        layer_scale_init_value=1e-5,
        norm_cfg=dict(type='LN', eps=1e-5),
    ),
    'clip': dict(
        img_size=64,
        pre_norm=True,
        norm_cfg=dict(type='LN', eps=1e-5),
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
    ),
}


def save(network: partial, folder: Path) -> nn.Module:
    """Write the checkpoint of a network whose weights all matter."""
    torch.manual_seed(0)
    model = network().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    return model


def shrink(cfg: Config, channels: list[int]) -> None:
    """Make what follows the backbone small."""
    model = cfg.model
    if cfg.default_scope == 'mmseg':
        model.decode_head.update(in_channels=channels, channels=8)
        model.auxiliary_head.update(in_channels=channels[2], channels=8)
        model.data_preprocessor.pop('size')
        model.data_preprocessor.size_divisor = 2
    else:
        model.neck.in_channels = channels
        model.roi_head.bbox_head.fc_out_channels = 16
        model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
        model.train_cfg.rcnn.sampler.num = 8


def train(cfg: Config) -> nn.Module:
    """Two iterations by the optimizer of the config."""
    model = build(cfg)
    model.init_weights()
    trained = model.train()
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    detection = cfg.default_scope == 'mmdet'
    batch = detection_batch(model, with_mask=True) if detection else segmentation_batch(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):
        loss, _ = trained.parse_losses(trained(**batch, mode='loss'))
        assert loss.isfinite() and loss > 0
        optimizer.update_params(loss)
    assert all(p.isfinite().all() for p in model.parameters())
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert any(name.startswith('backbone') for name in moved)
    for name, parameter in model.backbone.named_parameters():
        parameter.data.copy_(before[f'backbone.{name}'])
    return model


def check_features(backbone: nn.Module, source: nn.Module, size: int, extra: int) -> None:
    """The last layer's map, before pyramid and norm, is what the library's own class computes."""
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        backbone.final_norm = False
        maps = MaskedVisionTransformer.forward(backbone.eval(), images)
        expected = source(images, output_hidden_states=True).hidden_states[-1][:, extra:]
    torch.testing.assert_close(maps[-1].flatten(2).mT, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize(
    'config',
    [
        'det/mask_rcnn_vitb14_dinov2_1x_coco',
        'det/mask_rcnn_vitb16_dinov2_1x_coco',
        'seg/upernet_vitb14_dinov2_512_160k_ade20k',
        'seg/upernet_vitb16_dinov2_512_160k_ade20k',
    ],
)
def test_dinov2_with_registers_by_the_configs(config, tmp_path):
    """As trained, with patches of 14, and resampled to 16."""
    source = save(DINOV2, tmp_path)
    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    cfg.model.backbone.update(arch=ARCH, out_indices=[0, 1, 2, 3])
    cfg.model.backbone.img_size = 70 if 'vitb14' in config else 80
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path)
    shrink(cfg, [32] * 4)
    model = train(cfg)
    if 'vitb14' in config:
        check_features(model.backbone, source, 70, extra=5)
    kernel = source.embeddings.patch_embeddings.projection.weight
    loaded = model.backbone.patch_embed.projection.weight
    assert torch.equal(kernel, loaded) == ('vitb14' in config)
    # Patches of one color look the same at every size.
    torch.testing.assert_close(loaded.sum((2, 3)), kernel.sum((2, 3)), atol=1e-3, rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize(
    'config', ['det/mask_rcnn_vitb16_1x_coco', 'seg/upernet_vitb16_512_160k_ade20k']
)
@pytest.mark.parametrize('name, network, extra', [('dinov3', DINOV3, 5), ('clip', CLIP, 1)])
def test_dinov3_and_clip(name, network, extra, config, tmp_path):
    source = save(network, tmp_path)
    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    cfg.model.backbone.update(arch=ARCH, out_indices=[0, 1, 2, 3], **OPTIONS[name])
    cfg.model.backbone.init_cfg.checkpoint = str(tmp_path)
    shrink(cfg, [32] * 4)
    check_features(train(cfg).backbone, source, 64, extra)


@pytest.mark.long
@pytest.mark.parametrize(
    'config', ['det/cascade_mask_rcnn_swint_w7_1x_coco', 'seg/upernet_swint_w7_512_160k_ade20k']
)
def test_swin(config, tmp_path):
    source = save(SWIN, tmp_path)
    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    if cfg.default_scope == 'mmdet':  # its Mask R-CNN, of one stage
        plain = Config.fromfile(CONFIGS / 'det/mask_rcnn_vitb16_1x_coco.py')
        plain.model.backbone, plain.optim_wrapper = cfg.model.backbone, cfg.optim_wrapper
        cfg = plain
    cfg.model.backbone.update(embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 4, 8])
    cfg.model.backbone.init_cfg = dict(type='ibot_mm.Pretrained', checkpoint=str(tmp_path))
    shrink(cfg, [16, 32, 64, 128])
    backbone = train(cfg).backbone
    theirs = source.encoder.layers[3].blocks[0].attention.output.dense.weight
    assert torch.equal(backbone.stages[3].blocks[0].attn.w_msa.proj.weight, theirs)


@pytest.mark.parametrize('network', [SAM, VITDET], ids=['SAM', 'ViTDet'])
@pytest.mark.parametrize(
    'config', ['det/mask_rcnn_vitb16_vitdet_1x_coco', 'seg/upernet_vitb16_512_160k_ade20k']
)
def test_relative_positions_are_refused_by_name(network, config, tmp_path):
    save(network, tmp_path)
    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    cfg.model.backbone.update(
        arch=ARCH, img_size=64, init_cfg=dict(type='ibot_mm.Pretrained', checkpoint=str(tmp_path))
    )
    cfg.model.backbone.pop('out_indices', None)
    if config.startswith('seg'):
        cfg.model.backbone.out_indices = [0, 1, 2, 3]
    backbone = build(cfg).backbone
    with pytest.raises(CheckpointError, match='relative positions'):
        backbone.init_weights()
