# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from ibot_mm.engine import PerParameterClipAmpOptimWrapper, PerParameterClipOptimWrapper

WRAPPERS = [PerParameterClipOptimWrapper, PerParameterClipAmpOptimWrapper]


def build(wrapper, **kwargs):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return model, wrapper(optimizer=optimizer, clip_grad=dict(max_norm=0.3), **kwargs)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_each_parameter_is_clipped_by_its_own_norm(wrapper):
    model, optim_wrapper = build(wrapper)
    before = [p.detach().clone() for p in model.parameters()]
    loss = model(torch.full((2, 4), 3.0)).sum()
    gradients = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    optim_wrapper.update_params(loss)
    for old, gradient, new in zip(before, gradients, model.parameters()):
        norm = gradient.norm()
        coefficient = min(1.0, 0.3 / (norm.item() + 1e-6))
        torch.testing.assert_close(old - new, gradient * coefficient)
    norms = torch.stack([g.norm() for g in gradients])
    assert (norms > 0.3).any()
    logged = optim_wrapper.message_hub.get_scalar('train/grad_norm').current()
    assert logged == pytest.approx(norms.norm().item(), rel=1e-6)


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_small_gradients_and_missing_ones_are_left_alone(wrapper):
    model, optim_wrapper = build(wrapper)
    model[0].requires_grad_(False)
    model[1].weight.grad = torch.full((1, 8), 1e-3)
    optim_wrapper._clip_grad()
    assert torch.equal(model[1].weight.grad, torch.full((1, 8), 1e-3))
    assert model[0].weight.grad is None


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_accumulated_gradients_are_clipped_once(wrapper):
    model, optim_wrapper = build(wrapper, accumulative_counts=2)
    optim_wrapper.initialize_count_status(model, 0, 4)
    before = model[1].bias.detach().clone()
    for value in (0.1, 0.3):  # mean gradient 0.2 < 0.3: not clipped, though 2 x 0.3 would be
        optim_wrapper.update_params(model[1].bias.sum() * value)
    torch.testing.assert_close(before - model[1].bias, torch.tensor([0.2]))


def test_bf16_runs_under_autocast_on_the_cpu():
    model, optim_wrapper = build(PerParameterClipAmpOptimWrapper, dtype='bfloat16')
    with optim_wrapper.optim_context(model):
        output = model(torch.ones(1, 4))
    assert output.dtype == torch.bfloat16
    optim_wrapper.update_params(output.sum())


def test_fp16_is_float32_on_the_cpu():
    model, optim_wrapper = build(PerParameterClipAmpOptimWrapper)
    with optim_wrapper.optim_context(model):
        assert model(torch.ones(1, 4)).dtype == torch.float32


@pytest.mark.parametrize('clip_grad', [None, {}, dict(max_norm=0), dict(max_norm=1, norm_type=2)])
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_bad_clip_grad(wrapper, clip_grad):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match=r'clip_grad=dict\(max_norm=\.\.\.\)'):
        wrapper(optimizer=optimizer, clip_grad=clip_grad)


def test_with_somebody_elses_model():
    """By name, on a stock ResNet of mmpretrain with mm's default constructor."""
    from mmpretrain.models import ResNet

    model = ResNet(18)
    optim_wrapper = build_optim_wrapper(
        model,
        dict(
            type='ibot_mm.PerParameterClipOptimWrapper',
            optimizer=dict(type='SGD', lr=0.1),
            clip_grad=dict(max_norm=1e-3),
        ),
    )
    assert isinstance(optim_wrapper, OPTIM_WRAPPERS.get('ibot_mm.PerParameterClipOptimWrapper'))
    before = model.conv1.weight.detach().clone()
    optim_wrapper.update_params(model(torch.randn(2, 3, 32, 32))[-1].sum())
    assert 0 < (model.conv1.weight - before).norm() <= 0.1 * 1e-3 * 1.001
