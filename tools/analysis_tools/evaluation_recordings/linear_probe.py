# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Linear probing: every step of a classifier by SGD and by LARS, one among others of a sweep."""

from typing import Any

import numpy as np
import torch
from mmengine.registry import PARAM_SCHEDULERS
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ibot_mm.engine.optim import SweepConstructor
from ibot_mm.evaluation import SweepAccuracy
from ibot_mm.functional.pooling import POOLINGS, pool_tokens
from ibot_mm.models import LinearSweepHead

from .recording import Recording

RECORDS = ('*.weight0', '*.batches', '*.val_acc1')
INPUTS = (
    *('tokens', 'labels', 'val_tokens', 'val_labels'),
    *('*.weight0', '*.lr_base', '*.weight_decay', '*.batches'),
)


def replay(recording: Recording) -> dict[str, Any]:
    """Weights after every step, losses and accuracies."""
    settings = recording.settings
    features, val_features = (
        pool_tokens(
            recording.tensor(name)[-settings['n_last_blocks'] :], POOLINGS[settings['avgpool']]
        )
        for name in ('tokens', 'val_tokens')
    )
    values: dict[str, Any] = {}
    for name in [n.removesuffix('.weight0') for n in recording.arrays if n.endswith('.weight0')]:
        head = _build_head(recording, name)
        run = _train(head, recording, name, features) | _evaluate(head, recording, val_features)
        values |= {f'{name}.{key}': value for key, value in run.items()}
    return values


def _build_head(recording: Recording, name: str) -> LinearSweepHead:
    """Train the recorded classifier as the first of eight, which must not disturb it."""
    weight = recording.tensor(f'{name}.weight0')
    lr = float(recording.arrays[f'{name}.lr_base'])
    decay = float(recording.arrays[f'{name}.weight_decay'])
    head = LinearSweepHead(
        *weight.shape,
        learning_rates=(lr, 3 * lr),
        weight_decays=(decay, decay + 0.1),
        optimizers=(name, 'lars' if name == 'sgd' else 'sgd'),
    ).double()
    head.weight.data[0] = weight
    return head


def _train(
    head: LinearSweepHead, recording: Recording, name: str, features: Tensor
) -> dict[str, Any]:
    model = nn.Module()
    model.head = head
    optimizer = dict(type='ibot_mm.SweepOptimizer', momentum=recording.settings['momentum'])
    wrapper = SweepConstructor(dict(optimizer=optimizer))(model)
    batches, labels = recording.tensor(f'{name}.batches'), recording.tensor('labels')
    schedule = PARAM_SCHEDULERS.build(
        dict(type='CosineAnnealingLR', optimizer=wrapper, T_max=len(batches), by_epoch=True)
    )
    run = dict[str, list](weights=[], biases=[], lr=[], train_loss=[])
    for epoch in batches:
        losses = []
        for batch in epoch:
            samples = [DataSample().set_gt_label(int(label)) for label in labels[batch]]
            of_heads = head.losses((features[batch],), samples)
            wrapper.update_params(of_heads.sum())
            losses.append(of_heads[0].item())
            run['weights'].append(head.weight[0].detach().numpy().copy())
            run['biases'].append(head.bias[0].detach().numpy().copy())
            run['lr'].append(wrapper.param_groups[0]['lr'] * head.sweep[0]['lr'])
        run['train_loss'].append(np.mean(losses))
        schedule.step()
    return {key: np.stack(of_steps) for key, of_steps in run.items()}


@torch.no_grad()
def _evaluate(head: LinearSweepHead, recording: Recording, features: Tensor) -> dict[str, float]:
    """Of the recorded classifier alone, batch by batch.

    The published loss is a mean over batches; accuracies are weighted by images, but each batch's
    percentage is rounded to float32.
    """
    head.weight.data, head.bias.data, head.sweep = head.weight[:1], head.bias[:1], head.sweep[:1]
    samples = [DataSample().set_gt_label(int(label)) for label in recording.tensor('val_labels')]
    metric, batches = SweepAccuracy(), []
    size = recording.settings['val_batch']
    for start in range(0, len(samples), size):
        predicted = head.predict((features[start : start + size],), samples[start : start + size])
        metric.process(None, [sample.to_dict() for sample in predicted])
        batches.append(metric.evaluate(len(predicted)) | dict(images=len(predicted)))
    values = dict(val_loss=np.mean([batch['sweep/loss'] for batch in batches]))
    for top, key in ((1, 'sweep/top1'), (5, 'sweep/top5')):
        if key in batches[0]:
            percent = [float(np.float32(batch[key])) for batch in batches]
            values[f'val_acc{top}'] = np.average(percent, weights=[b['images'] for b in batches])
    return values
