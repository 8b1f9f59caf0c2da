# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Losses of DINOv2, DINOv3 and iBOT++: Sinkhorn-Knopp, KoLeo, Gram anchoring, visible patches."""

import re
from typing import Any

import torch
from torch import Tensor

from ibot_mm.functional.gram import gram_loss
from ibot_mm.functional.koleo import koleo_loss
from ibot_mm.functional.losses import patch_loss, patch_weights, teacher_targets
from ibot_mm.functional.sinkhorn import sinkhorn_center

from .recording import Recording

RECORDS = ('sinkhorn.targets_*', 'koleo.loss', 'gram.*.loss', 'ibotpp.visible_*.loss')
INPUTS = (
    '*.teacher_logits', '*.student_logits', 'koleo.features', 'gram.student', 'gram.teacher',
    'ibotpp.mask',
)  # fmt: skip
GRAM = {
    'image': {},
    'image_clipped': dict(negatives='clip'),
    'image_teacher_clipped': dict(negatives='clip_teacher'),
    'batch': dict(within_image=False),
}


def replay(recording: Recording) -> dict[str, Any]:
    """Compute values and gradients of our losses."""
    values = _sinkhorn(recording)
    features = recording.tensor('koleo.features').requires_grad_()
    values |= _with_gradient('koleo', koleo_loss(features), features)
    values |= _gram(recording) | _visible_patches(recording)
    return values


def _sinkhorn(recording: Recording) -> dict[str, Any]:
    temperature, values = recording.settings['teacher_temperature'], {}
    for name in recording.arrays:
        if match := re.fullmatch(r'(sinkhorn\w*)\.targets(?:_(\d+)_iterations)?', name):
            logits = recording.tensor(f'{match[1]}.teacher_logits')
            center = sinkhorn_center(logits, temperature, int(match[2] or 3))
            values[name] = teacher_targets(logits, center, temperature)
    return values


def _gram(recording: Recording) -> dict[str, Any]:
    student = recording.tensor('gram.student').requires_grad_()
    teacher, values = recording.tensor('gram.teacher'), {}
    for kind, options in GRAM.items():
        if f'gram.{kind}.loss' in recording.arrays:
            loss = gram_loss(student, teacher, **options)
            values |= _with_gradient(f'gram.{kind}', loss, student)
    return values


def _visible_patches(recording: Recording) -> dict[str, Any]:
    masks, settings = recording.tensor('ibotpp.mask'), recording.settings
    student = recording.tensor('ibotpp.student_logits').requires_grad_()
    teacher, values = recording.tensor('ibotpp.teacher_logits').flatten(0, 1), {}
    # The published function has the teacher's temperature in float32.
    temperatures = settings['student_temperature'], float32(settings['teacher_temperature'])
    patches, center = torch.arange(masks.numel()), teacher.new_zeros(teacher.shape[-1])
    for name in recording.arrays:
        if match := re.fullmatch(r'ibotpp\.visible_([\d.]+)\.loss', name):
            weights = patch_weights(masks, patches, teacher.dtype, float(match[1]))
            if not float(match[1]):
                weights = weights * masks.flatten()
            loss = patch_loss(student.flatten(0, 1), teacher, center, weights, *temperatures)
            values |= _with_gradient(name.removesuffix('.loss'), loss, student)
    return values


def float32(number: float) -> float:
    """Round a number as float32 does."""
    return torch.tensor(number, dtype=torch.float32).item()


def _with_gradient(name: str, loss: Tensor, inputs: Tensor) -> dict[str, Any]:
    (gradient,) = torch.autograd.grad(loss, inputs)
    return {f'{name}.loss': loss, f'{name}.gradient': gradient}
