# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The projection head of full checkpoints."""

import pytest
import torch

from ibot_mm.checkpoint import CheckpointError, read_head
from ibot_mm.models import IBOTNeck, ProjectionLayers

SIZES = dict(in_channels=6, num_prototypes=7, hidden_channels=12, bottleneck_channels=5)


def published(state):
    names = {
        **{f'layers.{i}.{leaf}': f'mlp.{2 * i}.{leaf}' for i in range(3)
           for leaf in ('weight', 'bias')},
        'cls_prototypes.parametrizations.weight.original0': 'last_layer.weight_g',
        'cls_prototypes.parametrizations.weight.original1': 'last_layer.weight_v',
    }  # fmt: skip
    return {f'head.{names[name]}': tensor for name, tensor in state.items()}


def contents(form, teacher, student):
    if form == 'ours':
        state = {f'teacher.neck.{n}': t for n, t in teacher.items()}
        return dict(state_dict=state | {f'neck.{n}': t for n, t in student.items()})
    student = {f'module.{n}': t for n, t in published(student).items()}
    return dict(teacher=published(teacher), student=student)


@pytest.mark.parametrize('network', ['teacher', 'student'])
@pytest.mark.parametrize('form', ['ours', 'published'])
def test_first_layers_come_from_the_checkpoint(form, network, tmp_path):
    heads = dict(teacher=IBOTNeck(**SIZES).state_dict(), student=IBOTNeck(**SIZES).state_dict())
    torch.save(contents(form, **heads), tmp_path / 'full.pth')
    init_cfg = dict(
        type='ibot_mm.PretrainedHead', checkpoint=str(tmp_path / 'full.pth'), network=network
    )
    layers = ProjectionLayers(dict(type='ibot_mm.IBOTNeck', **SIZES), init_cfg=init_cfg)
    layers.init_weights()
    for leaf in ('weight', 'bias'):
        loaded = layers.state_dict()[f'neck.layers.0.{leaf}']
        assert torch.equal(loaded, heads[network][f'layers.0.{leaf}'])


def test_a_backbone_alone_is_an_error(tmp_path):
    torch.save(dict(state_dict={'cls_token': torch.zeros(1, 1, 6)}), tmp_path / 'backbone.pth')
    init_cfg = dict(type='ibot_mm.PretrainedHead', checkpoint=str(tmp_path / 'backbone.pth'))
    layers = ProjectionLayers(dict(type='ibot_mm.IBOTNeck', **SIZES), init_cfg=init_cfg)
    with pytest.raises(
        CheckpointError, match=r'backbone.pth has no projection head of the teacher'
    ):
        layers.init_weights()


def test_a_head_of_another_size_is_an_error(tmp_path):
    head = IBOTNeck(**SIZES | dict(hidden_channels=8)).state_dict()
    torch.save(contents('ours', head, head), tmp_path / 'full.pth')
    init_cfg = dict(type='ibot_mm.PretrainedHead', checkpoint=str(tmp_path / 'full.pth'))
    layers = ProjectionLayers(dict(type='ibot_mm.IBOTNeck', **SIZES), init_cfg=init_cfg)
    with pytest.raises(CheckpointError, match=r'has shape \(8, 6\), here \(12, 6\) is needed'):
        layers.init_weights()


def test_a_network_has_one_of_two_names():
    with pytest.raises(ValueError, match='network must be one of'):
        read_head({}, network='momentum')
