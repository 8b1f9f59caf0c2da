# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weighted k-NN (paper, section 4.1; ``eval_knn``)."""

import torch

from ibot_mm.functional.accuracy import top_k_accuracy
from ibot_mm.functional.knn import weighted_knn

from ..frozen_splits import FrozenSplits
from .measurement import Measurement, Options

CHUNK = 65536  # held-out images that are compared in one pass over the training features


def knn(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Classify by the votes of the nearest training images, for several numbers of them.

    Raises:
        DataError: If there are fewer training images than neighbors.
    """
    splits.check_size(options.ks)
    bank, queries = splits.features()
    parts = [
        weighted_knn(
            bank,
            splits.train_labels,
            part.to(options.device),
            options.ks,
            options.temperature,
            splits.num_classes,
        )
        for part in queries.split(CHUNK)
    ]
    found = []
    for k in options.ks:
        ranked, labels = torch.cat([part[k] for part in parts]), splits.held_out_labels
        metrics = {f'top{top}': top_k_accuracy(ranked, labels, top) for top in (1, 5)}
        found.append(Measurement(dict(k=k), metrics))
    return found
