# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stochastic depth that skips what it drops, beside mmcv's, which multiplies by 0."""

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import nn

from ibot_mm.models.backbones.stochastic_depth import add_branch, sample_scale


@pytest.mark.parametrize('rate', [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize('training', [True, False])
def test_same_as_mmcvs(rate, training):
    """Nothing, some or everything dropped: values and gradients by the same random numbers."""
    torch.manual_seed(0)
    linear, drop_path = nn.Linear(4, 4).double(), DropPath(rate).train(training)
    tokens = torch.randn(20, 3, 4, dtype=torch.float64, requires_grad=True)
    inputs = (tokens, *linear.parameters())
    results = []
    for function in (
        lambda: add_branch(tokens, linear, drop_path),
        lambda: tokens + drop_path(linear(tokens)),
        lambda: tokens + linear(tokens) * sample_scale(tokens, drop_path)[:, None, None],
    ):
        torch.manual_seed(1)
        output = function()
        results.append((output, *torch.autograd.grad(output.square().sum(), inputs)))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-12, atol=1e-12)


def test_computes_only_what_is_kept():
    torch.manual_seed(0)
    sizes = []
    add_branch(torch.zeros(1000, 2), lambda x: sizes.append(len(x)) or x, DropPath(0.3))
    assert 600 < sizes[0] < 800


def test_without_drop_path():
    tokens = torch.ones(2, 3)
    assert torch.equal(add_branch(tokens, torch.neg, nn.Identity()), torch.zeros(2, 3))


def test_mixed_precision():
    tokens = torch.randn(8, 4, requires_grad=True)
    output = add_branch(tokens, lambda x: x.bfloat16(), DropPath(0.5))
    assert output.dtype == torch.float32
    output.sum().backward()
