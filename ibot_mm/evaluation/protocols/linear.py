# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Linear probing in its quick form: the published sweep on features of unchanged images.

The published protocol augments the training images (random crops and flips), for which each
epoch is a pass of the network; configs/cls/linear_* do that. This one trains on the test view.
"""

import torch
from torch import Tensor

from ibot_mm.functional.linear_sweep import LinearSweep
from ibot_mm.functional.schedules import cosine

from ..frozen_splits import FrozenSplits
from .measurement import Measurement, Options

CHUNK = 1024  # held-out images scored at once


def linear(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Train a linear layer of each learning rate at once, and measure all after the last epoch.

    SGD with momentum 0.9, learning rates counted by 256 images, cosine per epoch, as published.
    Data smaller than the batch are one batch.
    """
    train, held_out = splits.features(splits.linear)
    sweep = fit_sweep(train, splits.train_labels, splits.num_classes, options)
    accuracies = sweep_accuracies(sweep, held_out, splits.held_out_labels, options)
    return [
        Measurement(dict(lr=rate), dict(top1=float(top1), top5=float(top5)))
        for rate, (top1, top5) in zip(options.learning_rates, accuracies)
    ]


def sweep_accuracies(
    sweep: LinearSweep, features: Tensor, labels: Tensor, options: Options
) -> Tensor:
    """Measure every layer of a sweep: top-1 and top-5 in percent, (H, 2).

    Args:
        sweep: Of H layers.
        features: Shape (N, C).
        labels: Class ids (N,).
        options: ``device``.
    """
    hits = torch.zeros(len(options.learning_rates), 2, dtype=torch.long)
    for part, targets in zip(features.split(CHUNK), labels.split(CHUNK)):
        hits += _hits(sweep, part.to(options.device, torch.float32), targets)
    return 100 * hits.double() / len(features)


def fit_sweep(features: Tensor, labels: Tensor, num_classes: int, options: Options) -> LinearSweep:
    """Train a linear layer of each learning rate.

    Args:
        features: Shape (N, C).
        labels: Class ids (N,).
        num_classes: Number of classes.
        options: Settings.
    """
    labels = labels.to(options.device)
    generator = torch.Generator().manual_seed(options.seed)
    batch_size = min(options.batch_size, len(features))
    start = torch.randn(num_classes, features.shape[1], generator=generator) * 0.01
    rates = [rate * batch_size / 256 for rate in options.learning_rates]
    sweep = LinearSweep(start.to(options.device), rates)
    for epoch in range(options.epochs):
        factor = cosine(1.0, 0.0, epoch, options.epochs)
        for rows in torch.randperm(len(features), generator=generator).split(batch_size):
            batch = features[rows].to(options.device, torch.float32)
            sweep.step(batch, labels[rows.to(labels.device)], factor)
    return sweep


def _hits(sweep: LinearSweep, features: Tensor, targets: Tensor) -> Tensor:
    """Right answers among the first and the first five, by layer, (H, 2)."""
    scores = sweep.scores(features).nan_to_num(nan=-torch.inf)  # of layers that diverged
    ranked = scores.topk(min(5, scores.shape[2]), dim=2).indices.cpu()
    right = ranked == targets[:, None, None]
    return torch.stack([right[:, :, 0].sum(dim=0), right.any(dim=2).sum(dim=0)], dim=1)
