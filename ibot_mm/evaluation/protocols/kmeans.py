# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Clusters of frozen features by k-means, for what has no prototypes or too many.

The paper clusters by as many prototypes as there are classes. A network that was pre-trained with
another number, one of another project, and raw pixels are compared by this.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..clustering import clustering_metrics
from ..frozen_splits import FrozenSplits
from .measurement import Measurement, Options

SAMPLE = 65536  # training images of which the centers are found, at most
CHUNK = 8192  # held-out images assigned at once


def kmeans(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Find as many clusters as classes among the training features, compare them with the classes.

    Features are L2-normalized; the best of ten starts counts, by the distances to the centers.
    Labels are not used before the comparison, which is on the held-out images.

    Raises:
        ImportError: If scikit-learn is not installed.
    """
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise ImportError('k-means needs scikit-learn: pip install scikit-learn') from error
    train, held_out = splits.features()
    generator = torch.Generator().manual_seed(options.seed)
    rows = torch.randperm(len(train), generator=generator)[:SAMPLE].sort().values
    found = KMeans(splits.num_classes, n_init=10, random_state=options.seed)
    found.fit(_normalized(train[rows]))
    clusters = [found.predict(_normalized(part)) for part in held_out.split(CHUNK)]
    predictions = torch.from_numpy(np.concatenate(clusters)).long()
    metrics = clustering_metrics(splits.held_out_labels, predictions)
    metrics = {name: 100 * metrics[name] for name in ('acc', 'ari', 'nmi', 'fmi')}
    return [Measurement(dict(clusters=float(splits.num_classes)), metrics)]


def _normalized(features: Tensor) -> np.ndarray:
    return F.normalize(features.float(), dim=1).numpy()
