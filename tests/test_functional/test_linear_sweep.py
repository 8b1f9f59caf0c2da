# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The sweep is so many linear layers trained by torch's own SGD, and the published run."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ibot_mm.functional.linear_sweep import LEARNING_RATES, LinearSweep
from ibot_mm.functional.pooling import POOLINGS, pool_tokens

RECORDING = Path(__file__).parents[1] / 'data/evaluation/linear_probe.npz'


def test_published_rates():
    assert len(LEARNING_RATES) == 45
    assert LEARNING_RATES[:2] == (1e-4, 2e-4) and LEARNING_RATES[-1] == 9.0


def test_each_layer_is_trained_as_alone():
    torch.manual_seed(0)
    rates = [0.01, 0.5, 3.0]
    start = torch.randn(4, 6, dtype=torch.float64)
    sweep = LinearSweep(start, rates)
    layers = [torch.nn.Linear(6, 4, dtype=torch.float64) for _ in rates]
    optimizers = []
    for layer, rate in zip(layers, rates):
        layer.weight.data.copy_(start)
        layer.bias.data.zero_()
        optimizers.append(torch.optim.SGD(layer.parameters(), rate, momentum=0.9))
    for _ in range(5):
        features, labels = torch.randn(8, 6, dtype=torch.float64), torch.randint(4, (8,))
        loss = sweep.step(features, labels, factor=0.7)
        for i, (layer, optimizer) in enumerate(zip(layers, optimizers)):
            optimizer.param_groups[0]['lr'] = 0.7 * rates[i]
            optimizer.zero_grad()
            own = F.cross_entropy(layer(features), labels)
            own.backward()
            optimizer.step()
            assert loss[i].item() == pytest.approx(own.item(), rel=1e-12)
            torch.testing.assert_close(sweep.scores(features)[:, i], layer(features))


def test_gradients_stay_in_the_sweep():
    features = torch.randn(8, 6, requires_grad=True)
    sweep = LinearSweep(torch.zeros(4, 6), [0.1, 1.0])
    with torch.no_grad():  # as hooks have it
        loss = sweep.step(features, torch.randint(4, (8,)))
    assert features.grad is None and not loss.requires_grad
    assert sweep.weight.abs().sum() > 0 and not sweep.weight.requires_grad


def test_published_run():
    """Weights after every step of the recorded run of the published code."""
    import json

    recorded = np.load(RECORDING)
    settings = json.loads(str(recorded['config_json']))

    def tensor(name, dtype=torch.float64):
        return torch.from_numpy(recorded[name].astype(np.float64)).to(dtype)

    features = pool_tokens(tensor('tokens'), POOLINGS[settings['avgpool']])
    labels, batches = tensor('labels', torch.long), tensor('sgd.batches', torch.long)
    sweep = LinearSweep(tensor('sgd.weight0'), [float(recorded['sgd.lr_base'])])
    for step, rows in enumerate(batches.flatten(0, 1)):
        factor = float(recorded['sgd.lr'][step] / recorded['sgd.lr_base'])
        sweep.step(features[rows], labels[rows], factor)
        torch.testing.assert_close(sweep.weight, tensor('sgd.weights')[step], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(sweep.bias, tensor('sgd.biases')[step], rtol=1e-9, atol=1e-9)
