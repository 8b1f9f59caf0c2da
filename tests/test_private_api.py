# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Each private function of torch computes what its formula says; nobody else uses one."""

import re
from pathlib import Path

import pytest
import torch

from ibot_mm import private_api

PACKAGE = Path(private_api.__file__).parent


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in ((), (3,), (2, 5))]


def test_norms_of(tensors):
    expected = torch.tensor([tensor.square().sum().sqrt() for tensor in tensors])
    torch.testing.assert_close(private_api.norms_of(tensors), expected)


def test_scale(tensors):
    factors = torch.tensor([0.5, 2.0, 0.0])
    expected = [tensor * factor for tensor, factor in zip(tensors, factors)]
    private_api.scale_(tensors, factors)
    torch.testing.assert_close(tensors, expected)


@pytest.mark.parametrize('weight', [0.25, torch.tensor(0.25), torch.tensor(0.0)])
def test_lerp(tensors, weight):
    others = [tensor.flip(-1) if tensor.ndim else tensor + 1 for tensor in tensors]
    expected = [tensor + weight * (other - tensor) for tensor, other in zip(tensors, others)]
    private_api.lerp_(tensors, others, weight)
    torch.testing.assert_close(tensors, expected)


@pytest.mark.parametrize('found_inf', [0.0, 1.0])
def test_takes_found_inf(found_inf):
    parameter = torch.nn.Parameter(torch.ones(3))
    assert not private_api.takes_found_inf(torch.optim.AdamW([parameter], fused=False))
    optimizer = torch.optim.AdamW([parameter], fused=True)
    assert private_api.takes_found_inf(optimizer)
    parameter.grad = torch.ones(3)
    optimizer.found_inf = torch.tensor(found_inf)
    optimizer.step()
    assert torch.equal(parameter, torch.ones(3)) == bool(found_inf)


def test_private_functions_of_torch_are_used_here_only():
    users = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob('*.py')
        if re.search(r'\btorch\._[a-z]|_step_supports', path.read_text())
    ]
    assert users == ['private_api.py']


def test_undo_compile():
    module = torch.nn.ReLU()
    module.compile(backend=lambda graph, inputs: 1 / 0)  # would be called
    private_api.undo_compile(module)
    assert module(torch.tensor(-3.0)) == 0
