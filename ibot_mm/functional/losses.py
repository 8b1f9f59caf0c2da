# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The two iBOT losses and the teacher's targets as functions of tensors (paper, section 3)."""

import torch
from torch import Tensor


def teacher_targets(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Centred and sharpened distribution of the teacher.

    Args:
        logits: Teacher logits, shape (..., K).
        center: Running mean of teacher logits, shape (K,).
        temperature: Sharpening temperature.

    Returns:
        ``softmax((logits - center) / temperature)``, shape (..., K).
    """
    return ((logits - center) / temperature).softmax(dim=-1)


def cls_loss(student_logits: Tensor, targets: Tensor, student_temperature: float) -> Tensor:
    r"""[CLS] loss: every teacher view teaches every *other* view (equation 1, multi-crop).

    As a loop: the mean over teacher views q, student views v != q and images b of
    :math:`H(P_q[b], S_v[b]) = \mathrm{logsumexp}(s_v[b]) - \langle P_q[b], s_v[b] \rangle`,
    where s are the student's scaled logits. The products of all pairs are one einsum.

    Args:
        student_logits: Shape (V, B, K); the first G views are those of the teacher.
        targets: Teacher distributions, shape (G, B, K), G <= V.
        student_temperature: Temperature of the student.

    Returns:
        Scalar.
    """
    scaled = student_logits / student_temperature
    cross_entropy = scaled.logsumexp(dim=-1).sum(dim=1) - torch.einsum(
        'gbk,vbk->gv', targets, scaled
    )  # (G, V), summed over the batch
    same_view = torch.eye(*cross_entropy.shape, dtype=torch.bool, device=scaled.device)
    num_pairs = same_view.numel() - len(targets)
    return cross_entropy.masked_fill(same_view, 0).sum() / (num_pairs * scaled.shape[1])


def patch_loss(
    student_logits: Tensor, targets: Tensor, weights: Tensor, student_temperature: float
) -> Tensor:
    """Masked patch loss: the teacher's patch token teaches the student's of the same view.

    Args:
        student_logits: Logits of the masked patches of all views and images, shape (M, K).
        targets: Teacher distributions at the same patches, shape (M, K).
        weights: Share of each masked patch in the mean, shape (M,); see :func:`patch_weights`.
        student_temperature: Temperature of the student.

    Returns:
        Scalar, 0 (with a graph) where nothing is masked.
    """
    scaled = student_logits / student_temperature
    cross_entropy = scaled.logsumexp(dim=-1) - (targets * scaled).sum(dim=-1)  # (M,)
    return (cross_entropy * weights).sum()


def patch_weights(masks: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Weights that average over an image's masked patches, then over *all* images and views.

    Args:
        masks: True at masked patches, shape (G * B, N).
        dtype: Type of the weights. Defaults to ``torch.float32``.

    Returns:
        One weight for each masked patch in the order of ``tokens[masks]``, shape (M,). Images
        with nothing masked count in the mean but have no weight to give.
    """
    per_image = masks.sum(dim=1).clamp(min=1).to(dtype).reciprocal() / len(masks)  # (G * B,)
    return per_image[:, None].expand(masks.shape)[masks]
