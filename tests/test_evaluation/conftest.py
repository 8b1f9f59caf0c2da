# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A tiny pre-trained network and tiny splits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='session')
def splits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noise around a color each: 8 training and 4 held-out images of a class."""
    root = tmp_path_factory.mktemp('splits')
    rng = np.random.default_rng(0)
    for split, number in (('train', 8), ('val', 4)):
        for label in range(3):
            folder = root / split / f'class_{label}'
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 120, (20, 24, 3))
                pixels[..., label] += 120
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{index}.png')
    return root


@pytest.fixture(scope='session')
def pretrain_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Config file of a pre-training so small that a pass takes milliseconds."""
    cfg = Config.fromfile(CONFIGS / 'pretrain/ibot_vits16.py')
    cfg.model.backbone.update(
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=16,
        patch_size=8,
    )
    cfg.model.neck.update(
        in_channels=16, num_prototypes=24, hidden_channels=16, bottleneck_channels=8
    )
    cfg.model.head.num_prototypes = 24
    path = tmp_path_factory.mktemp('config') / 'tiny.py'
    cfg.dump(path)
    return path


@pytest.fixture(scope='session')
def checkpoint(tmp_path_factory: pytest.TempPathFactory, pretrain_config: Path) -> Path:
    """Of that pre-training; teacher and student differ."""
    init_default_scope('mmpretrain')
    cfg = Config.fromfile(pretrain_config)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(cfg=cfg.pretty_text)), path)
    return path
