# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.losses import cls_loss
from ibot_mm.functional.symmetry import growth_per_step, steps_to_leave


@pytest.mark.parametrize(
    ('temperature', 'expected'), [(0.07, -0.01 * 2 / 7), (0.05, 0.0), (0.04, 0.0025), (0.02, 0.015)]
)
def test_growth(temperature, expected):
    assert growth_per_step(temperature, momentum=0.99) == pytest.approx(expected)


@pytest.mark.parametrize('teacher_temperature', [0.02, 0.04, 0.07])
@pytest.mark.parametrize('correlation', [0.3, 0.6, 0.9])
def test_the_loss_itself_grows_and_shrinks_departures_so(teacher_temperature, correlation):
    """Student logits follow the gradient, the teacher follows them: no network, only the loss."""
    torch.manual_seed(0)
    momentum, student_temperature, steps = 0.98, 0.1, 60
    shared, *own = (1e-6 * torch.randn(3, 256, 8).double()).unbind(0)
    views = [correlation**0.5 * shared + (1 - correlation) ** 0.5 * view for view in own]
    size, center = 1.0, torch.zeros(8).double()
    for _ in range(steps):
        # A departure of this size in the teacher; the student is where its gradient vanishes.
        teacher = size * torch.stack(views)
        student = torch.zeros(2, 256, 8).double().requires_grad_()
        pairs = (student, teacher, center, student_temperature, teacher_temperature)
        (gradient,) = torch.autograd.grad(cls_loss(*pairs), student)
        optimum = -gradient * 2 * 256 * 8 * student_temperature**2  # of the quadratic form
        other = torch.stack(views) - torch.stack(views).mean(dim=-1, keepdim=True)
        followed = float((optimum * other).sum() / other.pow(2).sum())  # on what both views have
        size = momentum * size + (1 - momentum) * followed
    growth = growth_per_step(teacher_temperature, momentum, student_temperature, correlation)
    assert size == pytest.approx((1 + growth) ** steps, rel=0.3)
    assert (size > 1) == (growth > 0)


def test_steps_to_leave():
    assert steps_to_leave([0.5] * 10) == 6
    assert steps_to_leave([0.5] * 5) is None
    assert steps_to_leave([-1.0] * 100 + [0.5] * 10) == 106  # it never shrinks below noise
    assert steps_to_leave([0.1, -0.1] * 1000) is None
