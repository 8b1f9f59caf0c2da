# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How well clusters match classes."""

import torch
from torch import Tensor


def contingency(labels: Tensor, predictions: Tensor) -> Tensor:
    """Count the samples of each class in each cluster.

    Args:
        labels: Class ids (N,), from 0.
        predictions: Cluster ids (N,), from 0; not all need be used.

    Returns:
        Counts (number of classes, number of clusters), int64.

    Raises:
        ValueError: If there are no samples, shapes differ or an id is negative.
    """
    if labels.shape != predictions.shape or labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            'expected one cluster id for each label, got shapes '
            f'{tuple(labels.shape)} and {tuple(predictions.shape)}'
        )
    labels, predictions = labels.long(), predictions.long()
    if labels.min() < 0 or predictions.min() < 0:
        raise ValueError('labels and cluster ids must not be negative')
    num_clusters = int(predictions.max()) + 1
    cells = labels * num_clusters + predictions
    return torch.bincount(cells, minlength=(int(labels.max()) + 1) * num_clusters).view(
        -1, num_clusters
    )
