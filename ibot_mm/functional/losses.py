# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The two iBOT losses and the teacher's targets, fast; their plain form is in loss_equations.py."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

CHUNK = 2**18  # elements of the student's logits treated at once on the CPU, 1 MiB in float32
CHUNK_GPU = 2**24  # the same on a GPU, where every chunk costs a dozen kernel launches


def teacher_targets(logits: Tensor, center: Tensor, temperature: float) -> Tensor:
    """Compute the centered and sharpened distribution of the teacher.

    Args:
        logits: Teacher logits, shape (..., K).
        center: Running mean of teacher logits, shape (K,).
        temperature: Sharpening temperature.

    Returns:
        ``softmax((logits - center) / temperature)``, shape (..., K), float32 at least.
    """
    return (logits.to(_precise_dtype(logits)) - center).div_(temperature).softmax(dim=-1)


def cls_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    center: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Compute the [CLS] loss: each teacher view teaches each *other* view (equation 1, multi-crop).

    The mean over teacher views q, student views v != q and images of the cross-entropy
    H(P_q, S_v) of the teacher's targets and the student's softmax.

    Args:
        student_logits: Shape (V, B, K); the first G views are those of the teacher.
        teacher_logits: Shape (G, B, K), G <= V. They receive no gradient.
        center: Running mean of teacher logits, shape (K,).
        student_temperature: Temperature of the student.
        teacher_temperature: Temperature of the teacher.

    Returns:
        Scalar, float32 at least.
    """
    views, batch_size = student_logits.shape[:2]
    pairs = 1 - torch.eye(len(teacher_logits), views, device=student_logits.device)  # (G, V)
    num_pairs = (views - 1) * len(teacher_logits)
    weights = pairs.new_full(
        (batch_size,), 1 / (num_pairs * batch_size), dtype=_precise_dtype(student_logits)
    )
    return _CrossEntropy.apply(
        student_logits, teacher_logits, center, pairs, weights,
        student_temperature, teacher_temperature,
    )  # fmt: skip


def patch_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    center: Tensor,
    weights: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Compute the patch loss: the teacher's patch token teaches the student's of the same view.

    Args:
        student_logits: Logits of the masked patches of all views and images, shape (M, K).
        teacher_logits: Of the same patches, shape (M, K). They receive no gradient.
        center: Running mean of teacher logits, shape (K,).
        weights: Share of each masked patch in the mean, shape (M,); see :func:`patch_weights`.
        student_temperature: Temperature of the student.
        teacher_temperature: Temperature of the teacher.

    Returns:
        Scalar, float32 at least; 0 (with a graph) where nothing is masked.
    """
    return _CrossEntropy.apply(
        student_logits[None], teacher_logits[None], center, weights.new_ones(1, 1), weights,
        student_temperature, teacher_temperature,
    )  # fmt: skip


def patch_weights(
    masks: Tensor,
    patches: Tensor,
    dtype: torch.dtype = torch.float32,
    visible_weight: float = 0.0,
) -> Tensor:
    """Compute weights to average over an image's masked patches, then *all* images and views.

    Args:
        masks: True at masked patches, shape (G * B, N).
        patches: Places in ``masks.flatten()`` of the patches that the loss reads, shape (M,): the
            masked ones, or all if visible ones count too.
        dtype: Type of the weights. Defaults to ``torch.float32``.
        visible_weight: Weight of the mean over an image's visible patches, which is added to that
            over its masked ones. Defaults to 0.

    Returns:
        One weight for each of ``patches``, shape (M,). Images with nothing masked count in the
        mean but have no weight to give.
    """
    num_masked = masks.sum(dim=1)  # (G * B,)
    per_image = _share(num_masked, dtype)[patches // masks.shape[1]]
    if not visible_weight:
        return per_image
    visible = _share(masks.shape[1] - num_masked, dtype)[patches // masks.shape[1]]
    return torch.where(masks.flatten()[patches], per_image, visible_weight * visible)


def _share(counts: Tensor, dtype: torch.dtype) -> Tensor:
    """Weight of one of an image's patches in the mean over them, then over images (G * B,)."""
    return counts.clamp(min=1).to(dtype).reciprocal() / len(counts)


def _precise_dtype(logits: Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


class _CrossEntropy(torch.autograd.Function):
    """Weighted sum of the cross-entropies of pairs of views.

    Walks over chunks of the batch and computes them again in the backward pass: of the size of
    all logits it holds nothing but the student's and teacher's logits and, in the end, the
    student's gradient, for any number of prototypes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student_logits: Tensor,  # (V, B, K)
        teacher_logits: Tensor,  # (G, B, K)
        center: Tensor,  # (K,)
        pairs: Tensor,  # (G, V), 1 where the teacher's view teaches the student's
        weights: Tensor,  # (B,)
        student_temperature: float,
        teacher_temperature: float,
    ) -> Tensor:
        tensors = student_logits, teacher_logits, center, pairs, weights
        # Of the center a copy: it moves before the backward pass.
        ctx.save_for_backward(student_logits, teacher_logits, center.clone(), pairs, weights)
        ctx.temperatures = student_temperature, teacher_temperature
        total = student_logits.new_zeros((), dtype=_precise_dtype(student_logits))
        for _, scaled, targets, counts, weight in _chunks(*tensors, *ctx.temperatures):
            cross_entropy = counts * scaled.logsumexp(dim=-1) - torch.linalg.vecdot(targets, scaled)
            total += (cross_entropy * weight).sum()
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        result = torch.empty_like(ctx.saved_tensors[0])
        for rows, scaled, targets, counts, weight in _chunks(*ctx.saved_tensors, *ctx.temperatures):
            factor = (gradient * weight / ctx.temperatures[0]).expand_as(scaled[..., 0])[..., None]
            difference = scaled.softmax(dim=-1).mul_(factor * counts[..., None])
            result[:, rows] = difference.addcmul_(targets, factor, value=-1)
        return result, None, None, None, None, None, None


def _chunks(
    student_logits: Tensor,
    teacher_logits: Tensor,
    center: Tensor,
    pairs: Tensor,
    weights: Tensor,
    student_temperature: float,
    teacher_temperature: float,
) -> Iterator[tuple[slice, Tensor, Tensor, Tensor, Tensor]]:
    """Rows, scaled logits and targets (V, b, K), targets' sums (V, 1) and weights (b,)."""
    batch_size = student_logits.shape[1]
    budget = CHUNK_GPU if student_logits.is_cuda else CHUNK
    size = max(1, budget * batch_size // max(1, student_logits.numel()))
    dtype = _precise_dtype(student_logits)
    for start in range(0, batch_size, size):
        rows = slice(start, start + size)
        scaled = student_logits[:, rows].to(dtype) / student_temperature
        targets = teacher_targets(teacher_logits[:, rows], center, teacher_temperature)
        if pairs.numel() > 1:
            targets = torch.einsum('gv,gbk->vbk', pairs.to(targets), targets)
        yield rows, scaled, targets, pairs.to(scaled).sum(dim=0)[:, None], weights[rows].to(scaled)
