# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.losses import cls_loss, patch_loss, patch_weights, teacher_targets


def cross_entropy(target, logits, temperature):
    return -(target * (logits / temperature).log_softmax(dim=-1)).sum(dim=-1)


@pytest.mark.parametrize(
    'num_global, num_local', [(2, 0), (2, 3), (1, 2), (3, 1)], ids=lambda n: str(n)
)
def test_cls_loss_is_the_mean_over_pairs_of_different_views(num_global, num_local):
    torch.manual_seed(0)
    student = torch.randn(num_global + num_local, 4, 16, dtype=torch.float64)
    targets = torch.randn(num_global, 4, 16, dtype=torch.float64).softmax(dim=-1)
    pairs = [
        cross_entropy(targets[q], student[v], 0.1).mean()
        for q in range(num_global)
        for v in range(len(student))
        if v != q
    ]
    assert len(pairs) == num_global * (num_global + num_local - 1)
    torch.testing.assert_close(
        cls_loss(student, targets, 0.1), torch.stack(pairs).mean(), rtol=1e-13, atol=0
    )


def test_patch_loss_averages_masked_patches_then_all_images():
    torch.manual_seed(0)
    masks = torch.zeros(6, 9, dtype=torch.bool)  # 2 views x 3 images; two without a mask
    masks[0, :1] = masks[1, :4] = masks[3, 2:] = True
    masks[4] = True
    student = torch.randn(6, 9, 16, dtype=torch.float64)
    targets = torch.randn(6, 9, 16, dtype=torch.float64).softmax(dim=-1)
    per_patch = cross_entropy(targets, student, 0.1) * masks
    expected = (per_patch.sum(dim=1) / masks.sum(dim=1).clamp(min=1)).mean()

    weights = patch_weights(masks, torch.float64)
    actual = patch_loss(student[masks], targets[masks], weights, 0.1)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0)


def test_patch_loss_without_masks_is_zero_and_has_a_graph():
    logits = torch.randn(0, 16, requires_grad=True)
    weights = patch_weights(torch.zeros(4, 9, dtype=torch.bool))
    loss = patch_loss(logits, torch.randn(0, 16), weights, 0.1)
    loss.backward()
    assert loss == 0 and logits.grad is not None


def test_targets_are_centred_and_sharpened():
    logits, center = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0.0, 1.0, 3.0])
    torch.testing.assert_close(teacher_targets(logits, center, 0.05), torch.full((3,), 1 / 3))
    sharp = teacher_targets(logits, torch.zeros(3), 0.05)
    assert sharp[2] > 0.999
