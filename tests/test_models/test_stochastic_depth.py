# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stochastic depth that skips what it drops, beside mmcv's, which multiplies by 0."""

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from torch import nn

from ibot_mm.functional.token_layout import TokenLayout
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


SIZES = [(6, 3, 4), (8, 2, 4), (1, 5, 4)]


@pytest.mark.parametrize('rate', [0.0, 0.01, 0.5, 0.999])
def test_images_of_several_sizes_are_dropped_whole(rate):
    """By the same random numbers as the same images one by one, with the same scale."""
    torch.manual_seed(0)
    linear, drop_path = nn.Linear(4, 4).double(), DropPath(rate)
    batches = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in SIZES]
    inputs = (*batches, *linear.parameters())
    packed, layout = TokenLayout.pack(batches)

    def branch(tokens, layout):  # mixes the tokens of an image
        parts = [linear(x - x.mean(1, keepdim=True)) for x in layout.split(tokens)]
        return TokenLayout.pack(parts)[0]

    def one_by_one():
        scale = sample_scale(torch.zeros(15).double(), drop_path).split([6, 8, 1])
        parts = [
            x + linear(x - x.mean(1, keepdim=True)) * s[:, None, None]
            for x, s in zip(batches, scale)
        ]
        return TokenLayout.pack(parts)[0]

    results = []
    for function in (
        lambda: add_branch(packed, branch, drop_path, layout),
        one_by_one,
        lambda: packed + branch(packed, layout) * sample_scale(packed, drop_path, layout)[:, None],
    ):
        torch.manual_seed(1)
        output = function()
        gradients = torch.autograd.grad(output.square().sum(), inputs, retain_graph=True)
        results.append((output, *gradients))
    for other in results[1:]:
        torch.testing.assert_close(results[0], other, rtol=1e-12, atol=1e-12)


def test_the_share_that_is_kept_is_that_of_each_size():
    torch.manual_seed(0)
    packed, layout = TokenLayout.pack([torch.ones(2000, 3, 1), torch.ones(1000, 2, 1)])
    seen = []
    output = add_branch(packed, lambda x, kept: seen.append((x, kept)) or x, DropPath(0.3), layout)
    ((tokens, kept),) = seen
    assert [length for _, length in kept.shapes] == [3, 2]
    assert len(tokens) == sum(number * length for number, length in kept.shapes)
    for (number, _), (all_images, _), batch in zip(
        kept.shapes, layout.shapes, layout.split(output)
    ):
        assert abs(number / all_images - 0.7) < 0.05  # over 3 standard deviations
        is_kept = batch[:, 0, 0] > 1
        assert is_kept.sum() == number
        expected = torch.where(is_kept, 1 + 1 / 0.7, 1.0)[:, None, None].expand_as(batch)
        torch.testing.assert_close(batch, expected)
