# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Few labels on frozen features: the other protocols with a share of the training images."""

import torch
from torch import Tensor

from ..frozen_splits import FrozenSplits
from .knn import knn
from .linear import linear
from .logistic import logistic
from .measurement import Measurement, Options


def few_labels(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Measure k-NN, linear probing and logistic regression with 1 % and 10 % of the labels.

    Images are sampled class by class by a seed. The paper's lists are SimCLR's, of ImageNet. Of
    the numbers of neighbors those are left out that exceed the images.
    """
    found = []
    for share in options.shares:
        rows = sample_rows(splits.train_labels, share, options.seed)
        part = splits.take(rows)
        number = len(rows)
        ks = tuple(k for k in options.ks if k <= number) or (number,)
        from_part = Options(**(vars(options) | dict(ks=ks)))
        for name, protocol in (('knn', knn), ('linear', linear), ('logistic', logistic)):
            for measurement in protocol(part, from_part):
                setting = dict(share=share, images=number, protocol=name) | measurement.setting
                found.append(Measurement(setting, measurement.metrics))
    return found


def sample_rows(labels: Tensor, share: float, seed: int) -> Tensor:
    """Sample a share of each class, at least one image of it.

    Args:
        labels: Class ids (N,).
        share: Above 0, up to 1.
        seed: Of the choice.

    Returns:
        Row numbers in increasing order.

    Raises:
        ValueError: If ``share`` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f'a share of the labels must be above 0 and up to 1, got {share}')
    generator = torch.Generator().manual_seed(seed)
    chosen = []
    for label in labels.unique():
        rows = (labels == label).nonzero()[:, 0]
        number = max(1, round(share * len(rows)))
        chosen.append(rows[torch.randperm(len(rows), generator=generator)[:number]])
    return torch.cat(chosen).sort().values
