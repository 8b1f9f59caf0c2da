# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weighted k-NN (paper, section 4.1; ``eval_knn``)."""

from ibot_mm.functional.accuracy import top_k_accuracy
from ibot_mm.functional.knn import weighted_knn

from ..frozen_splits import FrozenSplits
from .measurement import Measurement, Options


def knn(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Classify by the votes of the nearest training images, for several numbers of them.

    Raises:
        DataError: If there are fewer training images than neighbors.
    """
    splits.check_size(options.ks)
    bank, queries = splits.features()
    ranked = weighted_knn(
        bank,
        splits.train_labels,
        queries.to(options.device),
        options.ks,
        options.temperature,
        splits.num_classes,
    )
    return [
        Measurement(
            dict(k=k),
            {f'top{top}': top_k_accuracy(ranked[k], splits.held_out_labels, top) for top in (1, 5)},
        )
        for k in options.ks
    ]
