# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Configs that are sound, ours and those of mm, have no fault."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.utils import get_installed_path

from ibot_mm.config_check import check_config

CONFIGS = Path(__file__).parents[2] / 'configs'
NO_TRAININGS = ('_base_', 'ablation')
OURS = sorted(path for path in CONFIGS.glob('*/*.py') if path.parent.name not in NO_TRAININGS)
STOCK = [
    'mmpretrain/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py',
    'mmpretrain/mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py',
    'mmpretrain/simclr/simclr_resnet50_16xb256-coslr-200e_in1k.py',
    'mmpretrain/resnet/resnet50_8xb32_in1k.py',
    'mmpretrain/vision_transformer/vit-base-p16_32xb128-mae_in1k.py',
    'mmpretrain/swin_transformer/swin-tiny_16xb64_in1k.py',
    'mmdet/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'mmdet/retinanet/retinanet_r50_fpn_1x_coco.py',
    'mmseg/upernet/upernet_r50_4xb4-160k_ade20k-512x512.py',
    'mmseg/pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py',
]


@pytest.mark.slow
@pytest.mark.parametrize('path', OURS, ids=lambda path: f'{path.parent.name}/{path.stem}')
def test_our_configs(path):
    assert check_config(Config.fromfile(path), {}, with_data=False) == []


@pytest.mark.slow
@pytest.mark.parametrize('name', STOCK)
def test_stock_configs(name):
    package, _, below = name.partition('/')
    path = Path(get_installed_path(package), '.mim/configs', below)
    assert check_config(Config.fromfile(path), {}, with_data=False) == []
