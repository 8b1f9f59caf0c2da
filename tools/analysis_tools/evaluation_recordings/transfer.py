# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Transfer: learning rates, repeated augmentation, weight decay, first layers of the head."""

from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from mmengine.registry import DATA_SAMPLERS

from ibot_mm.checkpoint import read_head
from ibot_mm.models import IBOTNeck, ProjectionLayers

from .configured import TINY, Configured, groups_of, our_names
from .recording import Recording

RECORDS = ('lr.*', 'sampler.rank*', 'decay.names')
INPUTS = ('sampler.permutation.*', 'decay.names', 'semi_head*.input', 'semi_head*.*.*')
CONFIG = 'cls/transfer_vitb16_1000e_cifar10'


def replay(recording: Recording) -> dict[str, Any]:
    """Run the config of a transfer, and the neck of the semi-supervised configs."""
    values: dict[str, Any] = {
        name: _learning_rates(recording.settings[name.removeprefix('lr.')])
        for name in recording.arrays
        if name.startswith('lr.')
    }
    values |= _samples(recording)
    values['decay.weight_decay'] = _weight_decays(recording.arrays['decay.names'].tolist())
    for name in {n.split('.')[0] for n in recording.arrays if n.startswith('semi_head')}:
        values[f'{name}.output'] = _head_output(recording, name)
    return values


def _learning_rates(settings: dict[str, Any]) -> list[float]:
    batch = settings['batch'] * settings['world']
    changes = {
        'optim_wrapper.optimizer.lr': settings['lr'] * batch / 512,
        'learning_rate_schedule.warmup': settings['warmup_epochs'],
        'learning_rate_schedule.start': settings['warmup_lr'],
        'learning_rate_schedule.final': settings['min_lr'],
        'train_cfg.max_epochs': settings['epochs'],
    }
    configured = Configured(CONFIG, TINY | changes)
    schedule = configured.build_schedule(epoch_length=1)
    rates = []
    for _ in range(settings['epochs']):
        rates.append(configured.wrapper.param_groups[0]['lr'])
        configured.wrapper.optimizer.step()
        schedule.step()
    return rates


def _samples(recording: Recording) -> dict[str, Any]:
    """Return the indices of each process, from the recorded permutations of an epoch."""
    settings, values = recording.settings['sampler'], {}
    cfg = Configured(CONFIG, TINY).config.train_dataloader.sampler
    for rank in range(settings['replicas']):
        world = (rank, settings['replicas'])
        with patch('mmpretrain.datasets.samplers.repeat_aug.get_dist_info', return_value=world):
            sampler = DATA_SAMPLERS.build(dict(cfg, dataset=range(settings['length'])))
        values['sampler.length'] = len(sampler)
        for epoch, permutation in recording.tensors('sampler.permutation.').items():
            with patch('torch.randperm', return_value=permutation):
                values[f'sampler.rank{rank}.{epoch}'] = list(sampler)
    return values


def _weight_decays(names: list[str]) -> list[float]:
    configured = Configured(CONFIG, TINY)
    groups = groups_of(configured.wrapper.optimizer, configured.model)
    return [groups[name][1]['weight_decay'] for name in our_names(names)]


def _head_output(recording: Recording, name: str) -> torch.Tensor:
    """Of a classifier on the first layers of a projection head, read as from a checkpoint."""
    tensors = recording.tensors(f'{name}.')
    kept = sum(n.startswith('mlp.') and n.endswith('.weight') for n in tensors)
    complete = 'last_layer.weight_v' in tensors
    if not complete:  # what a checkpoint has above the layers that are kept
        tensors |= {
            'last_layer.weight_g': torch.ones(2, 1),
            'last_layer.weight_v': torch.ones(2, 3),
        }
    head = {f'teacher.head.{n}': t for n, t in tensors.items() if n.startswith(('mlp', 'last'))}
    state = read_head(head, checkpoint=str(recording.path))
    prototypes, bottleneck = tensors['last_layer.weight_v'].shape
    neck = IBOTNeck(
        in_channels=tensors['input'].shape[1],
        num_prototypes=prototypes,
        hidden_channels=len(tensors['mlp.0.weight']),
        bottleneck_channels=bottleneck,
        num_layers=kept if complete else kept + 1,
    )
    layers = ProjectionLayers(neck, num_layers=kept).double()
    layers.neck.load_state_dict({n: state[n] for n in layers.neck.state_dict()})
    (features,) = layers(tensors['input'])
    return F.linear(features, tensors['cls_head.weight'], tensors['cls_head.bias'])
