# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmcv.cnn import build_norm_layer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

SHAPES = [(6, 5), (4, 5, 3), (4, 5, 2, 3)]


def output_and_state(norm, inputs):
    inputs = inputs.clone().requires_grad_()
    output = norm(inputs)
    (
        output * torch.linspace(-1, 1, 5).view(1, 5, *[1] * (inputs.ndim - 2)) + output**3
    ).sum().backward()
    gradients = dict(weight_gradient=norm.weight.grad, bias_gradient=norm.bias.grad)
    return dict(norm.state_dict(), output=output.detach(), input_gradient=inputs.grad, **gradients)


def make_inputs(shape):
    return (
        torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1
    )


def reference(shape):
    norm = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)](5).double()
    return output_and_state(norm, make_inputs(shape))


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_one_process(shape):
    _, norm = build_norm_layer(dict(type='ibot_mm.SyncBN'), 5)
    torch.testing.assert_close(
        output_and_state(norm.double(), make_inputs(shape)),
        reference(shape),
        rtol=1e-10,
        atol=1e-12,
    )
    norm.eval()
    before = norm.running_mean.clone()
    norm(make_inputs(shape))
    assert torch.equal(norm.running_mean, before)


def test_on_gpus_it_is_torchs_own(monkeypatch):
    """Fake tensors have a device and no memory, so that this needs no GPU."""
    own_forward, calls = nn.SyncBatchNorm.forward, []

    def forward(norm, inputs):
        calls.append(norm)
        return own_forward(norm, inputs)

    monkeypatch.setattr(nn.SyncBatchNorm, 'forward', forward)
    with FakeTensorMode():
        with torch.device('cuda'):
            _, norm = build_norm_layer(dict(type='ibot_mm.SyncBN'), 5)
            output = norm(torch.empty(4, 5, 3))
        _, norm_of_cpu = build_norm_layer(dict(type='ibot_mm.SyncBN'), 5)
        norm_of_cpu(torch.empty(4, 5, 3))
    assert output.shape == (4, 5, 3) and output.is_cuda and calls == [norm]


@pytest.mark.slow
def test_two_processes_equal_one(call_together):
    for result in call_together(__file__):
        assert 'equal' in result.stdout


def main():
    sys.path.insert(0, str(Path(__file__).parents[2]))
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    for shape in SHAPES:
        expected = reference(shape)
        _, norm = build_norm_layer(dict(type='ibot_mm.SyncBN'), 5)
        actual = output_and_state(norm.double(), make_inputs(shape).chunk(2)[rank])
        for name in ('output', 'input_gradient'):
            expected[name] = expected[name].chunk(2)[rank]
        for name in ('weight_gradient', 'bias_gradient'):
            dist.all_reduce(actual[name])
        torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)
    print('equal')
    dist.barrier()
    dist.destroy_process_group()


if __name__ == '__main__':
    main()
