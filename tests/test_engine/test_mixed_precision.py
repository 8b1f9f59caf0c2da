# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import build_optim_wrapper
from torch import nn

from ibot_mm.engine import AmpOptimWrapper, PerParameterClipAmpOptimWrapper
from ibot_mm.engine.optim import mixed_precision

WRAPPERS = [AmpOptimWrapper, PerParameterClipAmpOptimWrapper]


def build(wrapper=AmpOptimWrapper, **kwargs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return model, wrapper(optimizer=optimizer, clip_grad=dict(max_norm=0.3), **kwargs)


@pytest.fixture(autouse=True)
def lines(monkeypatch):
    """Lines for the log, on a machine that has no GPU or is taken for one."""
    collected = []
    monkeypatch.setattr(mixed_precision, 'print_log', lambda line, _: collected.append(line))
    monkeypatch.setattr(mixed_precision, 'get_device', lambda: 'cpu')
    return collected


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.parametrize('dtype', ['bfloat16', torch.bfloat16], ids=str)
def test_bf16_runs_under_autocast_on_the_cpu(wrapper, dtype, lines):
    model, optim_wrapper = build(wrapper, dtype=dtype)
    with optim_wrapper.optim_context(model):
        output = model(torch.ones(1, 4))
    assert output.dtype == torch.bfloat16 and lines == []
    before = model[1].weight.detach().clone()
    optim_wrapper.update_params(output.sum())
    assert model[1].weight.dtype == torch.float32 and not torch.equal(before, model[1].weight)


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.parametrize('dtype', [None, 'float16', torch.float16], ids=str)
def test_fp16_is_float32_on_the_cpu(wrapper, dtype, lines):
    model, optim_wrapper = build(wrapper, dtype=dtype)
    with optim_wrapper.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == torch.float32
    assert lines == ['fp16 needs a GPU: training in float32 on the CPU.']


def test_gradients_are_clipped_by_their_common_norm_and_accumulated():
    model, optim_wrapper = build(dtype='bfloat16', accumulative_counts=2)
    optim_wrapper.initialize_count_status(model, 0, 4)
    before = [p.detach().clone() for p in model.parameters()]
    for value in (1.0, 3.0):
        optim_wrapper.update_params(sum(p.sum() for p in model.parameters()) * value)
    steps = torch.cat([(a - b).flatten() for a, b in zip(before, model.parameters())])
    torch.testing.assert_close(steps.norm(), torch.tensor(0.3), rtol=1e-4, atol=0)


def test_state_goes_both_ways():
    _, optim_wrapper = build(dtype='bfloat16')
    optim_wrapper.load_state_dict(optim_wrapper.state_dict())


def test_with_a_gpu_the_base_class_does_all(monkeypatch):
    calls = []
    monkeypatch.setattr(mixed_precision, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(
        MMEngineAmpOptimWrapper, '__init__', lambda self, **kwargs: calls.append(kwargs)
    )
    AmpOptimWrapper(optimizer=None, loss_scale=512.0, dtype='float16')
    assert calls == [dict(optimizer=None, loss_scale=512.0, dtype='float16')]


def test_by_name():
    cfg = dict(type='ibot_mm.AmpOptimWrapper', dtype='bfloat16', optimizer=dict(type='SGD', lr=0.1))
    assert isinstance(build_optim_wrapper(nn.Linear(2, 2), cfg), AmpOptimWrapper)


def test_unknown_type():
    with pytest.raises(ValueError, match="Unknown dtype 'bf16'.*'bfloat16'"):
        build(dtype='bf16')


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16', None])
def test_mps_trains_in_float32(wrapper, dtype, lines, monkeypatch):
    """As it looks on an Apple machine, where mmengine's wrapper asserts."""
    monkeypatch.setattr(mixed_precision, 'get_device', lambda: 'mps')
    model, optim_wrapper = build(wrapper, dtype=dtype)
    with optim_wrapper.optim_context(model):
        output = model(torch.ones(1, 4))
    assert output.dtype == torch.float32
    optim_wrapper.update_params(output.sum())
    assert lines == ['Mixed precision needs a GPU: training in float32 on MPS.']
