# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path

import numpy as np
import pytest
import torch

from ibot_mm.functional.losses import teacher_targets
from ibot_mm.functional.sinkhorn import sinkhorn_center

RECORDED = Path(__file__).parents[1] / 'data' / 'sinkhorn.npz'
TEMPERATURE = 0.07  # of the recording


@pytest.mark.parametrize(
    ('kind', 'iterations', 'targets'),
    [
        ('sinkhorn', 1, 'targets_1_iterations'),
        ('sinkhorn', 3, 'targets_3_iterations'),
        ('sinkhorn_patch', 3, 'targets'),
    ],
)
def test_replays_the_published_function(kind, iterations, targets):
    recorded = np.load(RECORDED)
    logits = torch.from_numpy(recorded[f'{kind}.teacher_logits'])
    center = sinkhorn_center(logits, TEMPERATURE, iterations)
    expected = torch.from_numpy(recorded[f'{kind}.{targets}'])
    actual = teacher_targets(logits, center, TEMPERATURE)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_prototypes_are_used_alike():
    torch.manual_seed(0)
    logits = torch.randn(3, 40, 8) + torch.arange(8.0)  # one prototype ahead of all others
    center = sinkhorn_center(logits, 0.5, num_iterations=50)
    usage = teacher_targets(logits, center, 0.5).flatten(0, 1).mean(dim=0)
    torch.testing.assert_close(usage, torch.full((8,), 1 / 8), rtol=1e-3, atol=0)


def test_low_temperature_in_half_precision():
    logits = torch.full((4, 5), 1000.0, dtype=torch.float16)
    assert sinkhorn_center(logits, 0.01).isfinite().all()


def test_no_sample():
    assert (sinkhorn_center(torch.zeros(0, 5), 0.1) == 0).all()


def test_two_processes_are_as_one():
    """Each process has some of the samples, one of them none; they meet in the reduction."""
    torch.manual_seed(0)
    parts = [torch.randn(5, 6).double(), torch.randn(3, 6).double(), torch.zeros(0, 6).double()]
    expected = sinkhorn_center(torch.cat(parts), 0.1)
    for here in range(len(parts)):
        others = torch.cat(parts[:here] + parts[here + 1 :]) / 0.1
        state = dict(per_sample=torch.zeros(len(others), 1).double())

        def reduce(values, kind, others=others, state=state):
            if kind == 'max':
                shifted = others - state['per_sample']
                values.copy_(torch.maximum(values, shifted.amax(dim=0)))
                state['largest'] = values.clone()
            else:
                values += (others - state['per_sample'] - state['largest']).exp().sum(dim=0)
                per_prototype = values.log() + state['largest']
                state['per_sample'] = (others - per_prototype).logsumexp(dim=1, keepdim=True)

        torch.testing.assert_close(sinkhorn_center(parts[here], 0.1, reduce=reduce), expected)
