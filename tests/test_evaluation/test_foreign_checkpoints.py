# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Checkpoints of other projects give the features that their own networks give."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import transformers
from PIL import Image
from torchvision import transforms

from ibot_mm.checkpoint import CheckpointError
from ibot_mm.checkpoint.load import backbone_config
from ibot_mm.evaluation import Options
from ibot_mm.evaluation_request import Request
from ibot_mm.feature_extraction import extract
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.models import MaskedSwinTransformer

pytestmark = pytest.mark.slow

SIZE = 32
VIT = dict(embed_dim=32, depth=2, num_heads=2, img_size=SIZE, patch_size=8, num_classes=0)
HEADS = dict(num_heads=2)  # which timm's files do not tell of a small ViT
SWIN = dict(embed_dims=8, depths=[1, 1, 1, 2], num_heads=[1, 1, 2, 2])


def spread(model):
    """Weights that no initialization gives."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model.eval()


def timm_vit(folder):
    model = spread(timm.create_model('vit_small_patch16_224', **VIT))
    torch.save(model.state_dict(), folder / 'vit.pth')
    return folder / 'vit.pth', HEADS, model


def dino_teacher(folder):
    """Student and teacher side by side, with the names of a wrapped network."""
    model = spread(timm.create_model('vit_small_patch16_224', **VIT))
    teacher = {f'backbone.{name}': tensor for name, tensor in model.state_dict().items()}
    teacher |= {
        'head.mlp.0.weight': torch.randn(16, 32),
        'head.mlp.0.bias': torch.randn(16),
        'head.mlp.2.weight': torch.randn(8, 16),
        'head.mlp.2.bias': torch.randn(8),
        'head.last_layer.weight_g': torch.ones(12, 1),
        'head.last_layer.weight_v': torch.randn(12, 8),
    }
    student = {f'module.{name}': torch.zeros_like(tensor) for name, tensor in teacher.items()}
    torch.save(dict(student=student, teacher=teacher, epoch=1), folder / 'dino.pth')
    return folder / 'dino.pth', HEADS, model


def dinov2_folder(folder):
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, patch_size=8,
        image_size=SIZE,
    )  # fmt: skip
    model = spread(transformers.Dinov2Model(config))
    model.save_pretrained(folder / 'dinov2')
    return folder / 'dinov2', None, lambda images: model(images).pooler_output


def own_swin(folder):
    model = spread(MaskedSwinTransformer(arch=SWIN, img_size=SIZE, window_size=2, patch_size=2))
    state = {f'teacher.backbone.{name}': tensor for name, tensor in model.state_dict().items()}
    meta = dict(cfg=backbone_config(model))
    torch.save(dict(state_dict=state, meta=meta), folder / 'swin.pth')
    return folder / 'swin.pth', None, lambda images: model(images)[-1][:, 0]


MAKERS = [timm_vit, dino_teacher, dinov2_folder, own_swin]
view = transforms.Compose(
    [
        transforms.Resize(36, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(SIZE),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
)


@pytest.mark.parametrize('make', MAKERS, ids=lambda make: make.__name__)
def test_features_are_those_of_the_library(make, splits_folder, tmp_path):
    checkpoint, assume, network = make(tmp_path)
    folder = splits_folder / 'val'
    features, names = extract(checkpoint, folder, image_size=SIZE, num_workers=0, assume=assume)
    images = torch.stack([view(Image.open(folder / name).convert('RGB')) for name in names])
    with torch.no_grad():
        expected = network(images).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def request(checkpoint, splits_folder, folder, **changes):
    given = dict(
        checkpoint=str(checkpoint),
        data=str(splits_folder),
        out=str(folder / 'out'),
        image_size=SIZE,
        num_workers=0,
    )
    return Request(**(given | changes))


@pytest.mark.parametrize('make', MAKERS, ids=lambda make: make.__name__)
def test_protocols_read_them(make, splits_folder, tmp_path):
    checkpoint, assume, _ = make(tmp_path)
    protocols = ['knn', 'linear', 'logistic'] + ['clustering'] * (make is dino_teacher)
    given = request(checkpoint, splits_folder, tmp_path, protocols=protocols, assume=assume)
    options = Options(ks=(3,), epochs=2, learning_rates=(0.1,))
    results = evaluate_frozen(given, options)
    assert {row['protocol'] for row in results['summary']['teacher']} == set(protocols)
    assert json.loads((Path(given.out) / 'results.json').read_text())['checkpoint'] == str(
        checkpoint
    )


def test_a_vit_whose_heads_are_not_known_is_refused(splits_folder, tmp_path):
    checkpoint, _, _ = timm_vit(tmp_path)
    with pytest.raises(CheckpointError, match=r'give num_heads by assume=dict\(num_heads'):
        evaluate_frozen(request(checkpoint, splits_folder, tmp_path), Options(ks=(3,)))
