# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The two losses as the paper writes them (section 3.2).

Training runs the fast path in :mod:`ibot_mm.functional.losses`, which does not keep anything of
the size of the targets and skips patches that no loss reads. These functions say what it computes;
``tests/test_functional/test_losses.py`` holds the two together, values and gradients.
"""

from typing import Any

import torch
from torch import Tensor


def cross_entropy(
    student_logits: Tensor,
    teacher_logits: Tensor,
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Compute H(P, S) = -sum_k P_k log S_k of the teacher's targets P and the student's softmax S.

    Args:
        student_logits: Shape (..., K).
        teacher_logits: Shape (..., K). They receive no gradient.
        center: Running mean of teacher logits, shape (K,).
        student_temperature: Temperature of the student.
        teacher_temperature: Temperature of the teacher.

    Returns:
        Shape (...).
    """
    targets = ((teacher_logits - center) / teacher_temperature).softmax(dim=-1).detach()
    return -(targets * (student_logits / student_temperature).log_softmax(dim=-1)).sum(dim=-1)


def cls_loss(student_logits: Tensor, teacher_logits: Tensor, *settings: Any) -> Tensor:
    """Average the cross-entropy over all pairs of a teacher's view and another student's view.

    Args:
        student_logits: Shape (V, B, K); the first G views are those of the teacher.
        teacher_logits: Shape (G, B, K).
        *settings: Center and temperatures, as of :func:`cross_entropy`.

    Returns:
        Scalar: the mean over teacher views q, student views v != q and images.
    """
    pairs = [
        cross_entropy(student_view, teacher_view, *settings).mean()  # over the B images
        for q, teacher_view in enumerate(teacher_logits)
        for v, student_view in enumerate(student_logits)
        if v != q
    ]
    return torch.stack(pairs).mean()


def patch_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    masks: Tensor,
    *settings: Any,
    visible_weight: float = 0.0,
) -> Tensor:
    """Average the cross-entropy of masked patches over each view's patches, then over all views.

    With ``visible_weight``, as iBOT++ has it, the mean over each view's visible patches is added.

    Args:
        student_logits: Of all patches of the masked global views, shape (G * B, N, K).
        teacher_logits: Of the same views without masks, shape (G * B, N, K).
        masks: True at masked patches, shape (G * B, N).
        *settings: Center and temperatures, as of :func:`cross_entropy`.
        visible_weight: Defaults to 0.

    Returns:
        Scalar. A view without a masked patch counts in the mean as 0.
    """
    of_patches = cross_entropy(student_logits, teacher_logits, *settings)  # (G * B, N)
    masked = (of_patches * masks).sum(dim=1) / masks.sum(dim=1).clamp(min=1)
    visible = (of_patches * ~masks).sum(dim=1) / (~masks).sum(dim=1).clamp(min=1)
    return (masked + visible_weight * visible).mean()
