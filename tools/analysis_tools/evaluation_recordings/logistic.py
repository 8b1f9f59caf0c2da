# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Logistic regression on frozen features: the optimum, its objective and its accuracy."""

from typing import Any

import torch.nn.functional as F

from ibot_mm.functional.accuracy import top_k_accuracy
from ibot_mm.functional.logistic_regression import fit_logistic_regression

from .recording import Recording

RECORDS = ('train_features', 'test_features', 'lambda*.weight')
INPUTS = ('train_*', 'test_*')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our solver finds."""
    train, test = (
        F.normalize(recording.tensor(f'{split}_features'), dim=1) for split in ('train', 'test')
    )
    labels, targets = recording.tensor('train_labels'), recording.tensor('test_labels')
    values: dict[str, Any] = {}
    for index, weight_decay in enumerate(recording.settings['lambdas']):
        solution = fit_logistic_regression(
            train, labels, recording.settings['classes'], weight_decay, tolerance=1e-14
        )
        ranked = (test @ solution.weight).argsort(dim=1, descending=True, stable=True)
        values[f'lambda{index}.weight'] = solution.weight
        values[f'lambda{index}.loss'] = solution.loss
        # Recorded as a share.
        values[f'lambda{index}.test_accuracy'] = top_k_accuracy(ranked, targets) / 100
    return values
