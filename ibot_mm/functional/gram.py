# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Gram anchoring: similarities between patches stay those of an earlier network."""

import torch
import torch.nn.functional as F
from torch import Tensor

NEGATIVES = ('keep', 'clip', 'clip_teacher')


def gram_loss(
    student: Tensor, teacher: Tensor, within_image: bool = True, negatives: str = 'keep'
) -> Tensor:
    """Compute the mean squared difference of the cosine similarities between patches.

    DINOv3 (arXiv 2508.10104, section 4.2).

    Args:
        student: Features of patches, shape (B, N, D). They are normalized here.
        teacher: Features of the same patches in the Gram teacher, shape (B, N, D'). They receive
            no gradient.
        within_image: Whether to compare patches of the same image only, or all of the batch.
            Defaults to True.
        negatives: What happens to negative similarities: 'keep'; 'clip' to 0, on both sides;
            'clip_teacher', only the teacher's. Defaults to 'keep'.

    Returns:
        Scalar, float32 at least.

    Raises:
        ValueError: If ``negatives`` is unknown or the patches differ in number.
    """
    if negatives not in NEGATIVES:
        raise ValueError(f'gram_loss: negatives must be one of {NEGATIVES}, got {negatives!r}')
    if student.shape[:-1] != teacher.shape[:-1]:
        raise ValueError(
            f'gram_loss: the student has patches {tuple(student.shape[:-1])}, the Gram teacher '
            f'{tuple(teacher.shape[:-1])}: both need the same crops and patch size'
        )
    ours = _similarities(student, within_image)
    wanted = _similarities(teacher.detach(), within_image)
    if negatives != 'keep':
        wanted = wanted.clamp(min=0)
    if negatives == 'clip':
        ours = ours.clamp(min=0)
    return F.mse_loss(ours, wanted.to(ours))


def _similarities(features: Tensor, within_image: bool) -> Tensor:
    """Cosine similarities (B, N, N), or (B * N, B * N) over all images."""
    precise = features.to(torch.promote_types(features.dtype, torch.float32))
    points = F.normalize(precise if within_image else precise.flatten(0, 1), dim=-1)
    return points @ points.transpose(-1, -2)
