# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""No part of a step waits for the GPU: on tensors that claim to be there but have no values."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from ibot_mm.engine import FiniteLossHook, PerParameterClipOptimWrapper, SkipBadStepsHook
from ibot_mm.engine.hooks.runtime_info import WaitingScalars
from ibot_mm.engine.hooks.skipped_step import read_skipped_step
from ibot_mm.models import IBOT, EMATeacher

SHAPES = dict(
    global_crops=(4, 2, 3, 32, 32),
    local_crops=(4, 3, 3, 16, 16),
    masks=(4, 2, 4, 4),
    masked_patches=(20,),
)
DTYPES = dict(masks=torch.bool, masked_patches=torch.long)


@pytest.fixture
def model(request):
    arch = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
    return IBOT(
        backbone=dict(type='ibot_mm.MaskedVisionTransformer', arch=arch, img_size=32, patch_size=8),
        neck=dict(type='ibot_mm.IBOTNeck', in_channels=16, num_prototypes=20),
        head=dict(type='ibot_mm.IBOTHead', num_prototypes=20),
        pack_crops=getattr(request, 'param', False),
    )


@pytest.fixture
def gpu():
    """Under it, what needs a value of a tensor, or a shape that depends on one, raises."""
    with FakeTensorMode() as mode:
        yield mode


def on_gpu(tensor):
    fake = torch.empty(tensor.shape, dtype=tensor.dtype, device='cuda')
    return fake.requires_grad_(tensor.requires_grad)


def inputs(*names):
    return {
        name: torch.empty(SHAPES[name], dtype=DTYPES.get(name, torch.float32), device='cuda')
        for name in names
    }


@pytest.mark.parametrize('model', [False, True], ids=['a pass a size', 'one pass'], indirect=True)
def test_losses(model, gpu):
    state = {name: on_gpu(t) for name, t in (*model.named_parameters(), *model.named_buffers())}
    with sdpa_kernel(SDPBackend.MATH):  # the others ask the GPU what it can do
        losses = functional_call(model, state, (inputs(*SHAPES),), dict(mode='loss'))
        assert all(loss.is_cuda and loss.shape == () for loss in losses.values())
        # What the preprocessor spares, so that this test can fail:
        with pytest.raises(DynamicOutputShapeException):
            functional_call(model, state, (inputs('global_crops', 'masks'),), dict(mode='loss'))


def test_clipping_and_optimizer(model, gpu):
    optimized = [on_gpu(p) for p in model.parameters() if p.requires_grad]
    for parameter in optimized:
        parameter.grad = torch.empty_like(parameter)
    scalars = WaitingScalars(MessageHub.get_instance('no_waiting'))
    optimizer = torch.optim.AdamW(optimized, fused=True)
    optim_wrapper = PerParameterClipOptimWrapper(optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    optim_wrapper.message_hub = scalars
    optim_wrapper.step()
    assert len(scalars) == 1
    with pytest.raises(DataDependentOutputException):  # so that this test can fail
        scalars.hand_over()


def test_check_of_the_losses(gpu):
    hook = FiniteLossHook(interval=3)
    runner = SimpleNamespace(iter=0, epoch=0)
    for _ in range(2):
        hook.after_train_iter(runner, 0, outputs=dict(loss=torch.empty((), device='cuda')))


@pytest.mark.parametrize('fused', [True, False])
def test_skipping_of_bad_steps(model, gpu, fused):
    """With a fused optimizer; any other has to know whether to step."""
    optimized = {n: on_gpu(p) for n, p in model.named_parameters() if p.requires_grad}
    for parameter in optimized.values():
        parameter.grad = torch.empty_like(parameter)
    optimizer = torch.optim.AdamW(optimized.values(), fused=fused)
    wrapper = SimpleNamespace(optimizer=optimizer, should_update=lambda: True)
    buffers = {name: on_gpu(buffer) for name, buffer in model.head.named_buffers()}
    runner = SimpleNamespace(
        iter=0,
        epoch=0,
        optim_wrapper=wrapper,
        model=SimpleNamespace(named_buffers=buffers.items),
        message_hub=MessageHub.get_instance('no_waiting_for_bad_steps'),
    )
    hook = SkipBadStepsHook()
    hook.before_train(runner)
    hook.before_train_iter(runner)
    if not fused:
        with pytest.raises(DataDependentOutputException):
            optimizer.step()
        return
    optimizer.step()
    hook.after_train_iter(runner, 0, outputs=dict(loss=torch.empty((), device='cuda')))
    skipped = read_skipped_step(runner)
    assert skipped.is_cuda
    teacher = EMATeacher(nn.Linear(2, 2), nn.Linear(2, 2))
    for part in (teacher.backbone, teacher.neck):
        for name, parameter in list(part.named_parameters()):
            setattr(part, name, nn.Parameter(on_gpu(parameter), requires_grad=False))
    teacher.update(teacher.backbone, teacher.neck, 0.9, skipped)
