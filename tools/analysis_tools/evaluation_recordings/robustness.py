# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Robustness: ImageNet-A, ImageNet-9 and the backgrounds challenge, classifiers given."""

from typing import Any

import torch
from torch import Tensor

from ibot_mm.evaluation.views import normalize
from ibot_mm.functional.robustness import (
    is_vulnerable,
    predict_groups,
    predict_within,
    response_rate_accuracy,
    rms_calibration_error,
)

from .recording import Recording

RECORDS = ('imagenet_a_indices', 'a.rms_calibration_error', 'backgrounds.vulnerable')
INPUTS = (
    *('imagenet_a_indices', 'imagenet9_of_imagenet', 'a.logits_*', 'a.labels'),
    *('in9.weight', 'in9.class_of_output', 'in9.images', 'in9.labels'),
    *('backgrounds.foregrounds', 'backgrounds.masks', 'backgrounds.classes'),
)


def replay(recording: Recording) -> dict[str, Any]:
    """Calibration and accuracies, and the foregrounds that a background hides."""
    return _natural_adversarial(recording) | _backgrounds(recording)


def _natural_adversarial(recording: Recording) -> dict[str, Any]:
    logits = recording.tensor('a.logits_left') @ recording.tensor('a.logits_right')
    predictions, confidence = predict_within(logits, recording.tensor('imagenet_a_indices'))
    correct = predictions == recording.tensor('a.labels')
    return {
        'a.confidence': confidence,
        'a.accuracy': correct.double().mean(),
        'a.rms_calibration_error': rms_calibration_error(
            confidence, correct, recording.settings['bin'], as_published=True
        ),
        'a.aurra': response_rate_accuracy(confidence, correct),
    }


def _backgrounds(recording: Recording) -> dict[str, Any]:
    weight, groups = recording.tensor('in9.weight'), recording.tensor('in9.class_of_output')

    mean, std = ([255 * v for v in recording.settings[name]] for name in ('mean', 'std'))

    def predict(images: Tensor) -> Tensor:
        normalized = normalize(images.double(), mean, std)
        return predict_groups(normalized.flatten(1) @ weight.T, groups)

    images = recording.tensor('in9.images')
    parts = (recording.tensor(f'backgrounds.{n}') for n in ('foregrounds', 'masks', 'classes'))
    vulnerable = [
        is_vulnerable(predict, foreground, mask, int(group), [images])
        for foreground, mask, group in zip(*parts)
    ]
    right = predict(images) == recording.tensor('in9.labels')
    return {
        'in9.accuracy': right.double().mean(),
        'backgrounds.vulnerable': torch.tensor(vulnerable),
    }
