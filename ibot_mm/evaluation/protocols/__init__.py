# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Protocols over frozen features, one file each.

A protocol is a function of :class:`~ibot_mm.evaluation.frozen_splits.FrozenSplits` and
:class:`Options` that returns measurements; the best of them, by the first metric, is its result.
"""

from collections.abc import Callable

from ..frozen_splits import FrozenSplits
from .clustering import clustering
from .few_labels import few_labels
from .kmeans import kmeans
from .knn import knn
from .linear import linear
from .logistic import logistic
from .measurement import Measurement, Options, best_of

Protocol = Callable[[FrozenSplits, Options], list[Measurement]]
PROTOCOLS: dict[str, Protocol] = dict(
    knn=knn,
    linear=linear,
    logistic=logistic,
    clustering=clustering,
    kmeans=kmeans,
    few_labels=few_labels,
)

__all__ = ['PROTOCOLS', 'Measurement', 'Options', 'Protocol', 'best_of']
