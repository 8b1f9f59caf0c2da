# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What tests of detection and segmentation share: demo scenes, a checkpoint, one step."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ibot_mm.datasets.demo import DemoSettings, make_demo_data
from ibot_mm.models import MaskedVisionTransformer

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture(scope='session')
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo data with 8 scenes for training and 3 for validation."""
    settings = DemoSettings(num_train=10, num_val=10, num_scenes_train=8, num_scenes_val=3)
    return make_demo_data(tmp_path_factory.mktemp('data') / 'demo', settings)


@pytest.fixture(scope='session')
def save_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write the checkpoint of a pre-training with a teacher of random weights."""

    def save(**backbone) -> Path:
        torch.manual_seed(0)
        teacher = MaskedVisionTransformer(mask_token=False, **backbone)
        state = {
            f'teacher.backbone.{k}': torch.randn_like(v) for k, v in teacher.state_dict().items()
        }
        path = tmp_path_factory.mktemp('checkpoint') / 'epoch_1.pth'
        torch.save(dict(state_dict=state, meta=dict()), path)
        return path

    return save


def build(cfg: Config) -> nn.Module:
    """Build the model in the scope of its config."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return MODELS.build(cfg.model)


def detection_batch(model: nn.Module, with_mask: bool = False) -> dict:
    """Two images of 64 x 96 with boxes, prepared for the model."""
    batch = demo_mm_inputs(2, [(3, 64, 96)] * 2, num_items=[3, 2], with_mask=with_mask)
    return model.data_preprocessor(batch, training=True)


def segmentation_batch(model: nn.Module) -> dict:
    """Two images of 64 x 64 with maps of two classes, prepared for the model."""
    generator = np.random.default_rng(0)
    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        classes = torch.from_numpy(generator.integers(0, 2, (1, 64, 64)))
        sample.set_data(dict(gt_sem_seg=PixelData(data=classes)))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)]
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training=True)


def backward(model: nn.Module, batch: dict) -> tuple[dict[str, Tensor], set[str]]:
    """Backpropagate the losses of a batch.

    Returns:
        The losses, and the names of the trained parameters without a gradient: a distributed
        training needs find_unused_parameters if there are any.
    """
    model.train()
    loss, losses = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    assert loss.isfinite() and loss > 0
    trained = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert all(gradient is None or gradient.isfinite().all() for gradient in trained.values())
    return losses, {name for name, gradient in trained.items() if gradient is None}
