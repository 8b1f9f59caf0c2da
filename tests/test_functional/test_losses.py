# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional import loss_equations, losses
from ibot_mm.functional.losses import cls_loss, patch_loss, patch_weights, teacher_targets
from ibot_mm.functional.token_selection import masked_patches

TEMPERATURES = 0.1, 0.05  # of student and teacher


@pytest.fixture(params=[1, 16, 2**20], ids=lambda size: f'chunks of {size}')
def chunk(request, monkeypatch):
    """Elements treated at once: one row, some rows, all."""
    monkeypatch.setattr(losses, 'CHUNK', request.param)


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64) * 0.2


def compare(actual, expected, student):
    """Values and gradients; the gradient that arrives is not 1."""
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0)
    gradients = [torch.autograd.grad(3 * loss, student)[0] for loss in (actual, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(
    'num_global, num_local', [(2, 0), (2, 3), (1, 2), (3, 1)], ids=lambda n: str(n)
)
def test_cls_loss_is_its_equation(num_global, num_local, chunk):
    torch.manual_seed(0)
    student = randn(num_global + num_local, 4, 16).requires_grad_()
    teacher, center = randn(num_global, 4, 16), randn(16)
    arguments = (student, teacher, center, *TEMPERATURES)
    compare(cls_loss(*arguments), loss_equations.cls_loss(*arguments), student)


@pytest.mark.parametrize('visible_weight', [0.0, 0.5, 1.0])
def test_patch_loss_is_its_equation(chunk, visible_weight):
    torch.manual_seed(0)
    masks = torch.zeros(3, 2, 3, 3, dtype=torch.bool)  # 3 images x 2 views; two without a mask
    masks[0, 0, 0, :1] = masks[1, 0, 1:] = masks[0, 1, :2] = masks[2, 1] = True
    flat = masks.transpose(0, 1).flatten(0, 1).flatten(1)  # (6, 9), view by view
    student, teacher, center = randn(6, 9, 16).requires_grad_(), randn(6, 9, 16), randn(16)
    expected = loss_equations.patch_loss(
        student, teacher, flat, center, *TEMPERATURES, visible_weight=visible_weight
    )

    patches = torch.arange(6 * 9) if visible_weight else masked_patches(masks)
    weights = patch_weights(flat, patches, torch.float64, visible_weight)
    logits = (student.flatten(0, 1)[patches], teacher.flatten(0, 1)[patches])
    actual = patch_loss(*logits, center, weights, *TEMPERATURES)
    compare(actual, expected, student)


def test_the_equations_count_pairs_and_patches_as_the_paper_does():
    """With targets of one prototype each, every cross-entropy is a known number."""
    nats = torch.tensor([1.0, 2.0, 4.0])  # -log of the student's share of the target, by view
    wanted, others = (-nats).exp(), (1 - (-nats).exp()) / 2
    student = torch.stack([wanted, others, others], dim=-1).log()[:, None] * 0.1  # (3, 1, 3)
    teacher = torch.tensor([10.0, 0.0, 0.0]).expand(2, 1, 3)
    settings = (torch.zeros(3), 0.1, 0.05)
    loss = loss_equations.cls_loss(student, teacher, *settings)  # pairs (0, 1, 2) x (1, 0, 2)
    torch.testing.assert_close(loss, torch.tensor((2.0 + 4.0 + 1.0 + 4.0) / 4))
    masks = torch.tensor([[True, True, False], [False, False, False]])
    per_view = student[:, 0].expand(2, 3, 3), teacher[:1].expand(2, 3, 3)
    loss = loss_equations.patch_loss(*per_view, masks, *settings)
    torch.testing.assert_close(loss, torch.tensor((1.0 + 2.0) / 2 / 2))


def test_gradients_are_the_derivatives(chunk):
    student = randn(3, 4, 5).requires_grad_()
    args = (randn(2, 4, 5), randn(5), 0.1, 0.05)
    assert torch.autograd.gradcheck(lambda x: cls_loss(x, *args), (student,))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_low_precision_logits_give_precise_losses(dtype):
    torch.manual_seed(0)
    student, teacher = randn(50, 64).to(dtype).requires_grad_(), randn(50, 64).to(dtype)
    center, weights = randn(64).float(), torch.full((50,), 1 / 50)
    loss = patch_loss(student, teacher, center, weights, *TEMPERATURES)
    loss.backward()
    precise = student.detach().double().requires_grad_()
    expected = patch_loss(precise, teacher.double(), center.double(), weights, *TEMPERATURES)
    expected.backward()
    assert loss.dtype == torch.float32 and student.grad.dtype == dtype
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(student.grad, precise.grad.to(dtype), rtol=0.01, atol=1e-6)


def test_the_center_may_move_before_the_backward_pass():
    student, teacher, center = randn(2, 4, 16).requires_grad_(), randn(2, 4, 16), randn(16)
    expected = torch.autograd.grad(cls_loss(student, teacher, center, 0.1, 0.05), student)[0]
    loss = cls_loss(student, teacher, center, 0.1, 0.05)
    center.add_(1 + randn(16))
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], expected)


def test_patch_loss_without_masks_is_zero_and_has_a_graph():
    logits = torch.randn(0, 16, requires_grad=True)
    loss = patch_loss(logits, torch.randn(0, 16), torch.zeros(16), torch.zeros(0), 0.1, 0.05)
    loss.backward()
    assert loss == 0 and logits.grad is not None


def test_targets_are_centered_and_sharpened():
    logits, center = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(teacher_targets(logits, center, 0.05), torch.full((3,), 1 / 3))
    sharp = teacher_targets(logits, torch.zeros(3), 0.05)
    assert sharp[2] > 0.999
