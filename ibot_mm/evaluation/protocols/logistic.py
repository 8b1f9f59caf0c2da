# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Logistic regression without intercept (``eval_logistic_regression``)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ibot_mm.functional.accuracy import top_k_accuracy
from ibot_mm.functional.logistic_regression import fit_logistic_regression

from ..frozen_splits import FrozenSplits
from .measurement import Measurement, Options

CHUNK = 8192  # held-out images scored at once


def logistic(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Fit a linear classifier to its optimum, for several strengths of weight decay."""
    train, held_out = splits.features()
    weight: Tensor | None = None
    found = []
    for weight_decay in sorted(options.weight_decays, reverse=True):  # each from the one before
        solution = fit_logistic_regression(
            train,
            splits.train_labels,
            splits.num_classes,
            weight_decay,
            start=weight,
            device=options.device,
            normalize=True,
        )
        weight = solution.weight
        ranked = torch.cat([_rank(part, weight) for part in held_out.split(CHUNK)])
        metrics = {
            f'top{top}': top_k_accuracy(ranked, splits.held_out_labels, top) for top in (1, 5)
        }
        metrics |= dict(loss=solution.loss, gradient_ratio=solution.gradient_ratio)
        found.append(Measurement(dict(weight_decay=weight_decay), metrics))
    return found[::-1]


def _rank(features: Tensor, weight: Tensor) -> Tensor:
    scores = F.normalize(features.to(weight), dim=1) @ weight
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :5].cpu()
