# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Agreement of prototypes and classes as an mmengine metric."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from ibot_mm.registry import METRICS

from .clustering import clustering_metrics


@METRICS.register_module()
class ClusteringAccuracy(BaseMetric):
    """Unsupervised classification during a pre-training (paper, section 4.1).

    The model puts the prototype that each image chooses into its data sample; the prototypes are
    clusters, best as many as there are classes. Of :class:`ibot_mm.KNNSplits` only queries count.
    Each image counts once, with any number of processes, where the published code counts it in
    every process.

    Returns in percent ``clustering/acc``, ``clustering/nmi``, ``clustering/ari`` and
    ``clustering/fmi``; see :func:`~ibot_mm.evaluation.clustering.clustering_metrics`.

    Args:
        cluster_key (str): Field of the data sample that holds the prototype's number.
            Defaults to 'prototype'.
        prefix (str): Of the metric's names. Defaults to 'clustering'.
    """

    default_prefix = 'clustering'

    def __init__(self, cluster_key: str = 'prototype', prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self.cluster_key = cluster_key

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the prototype and label of each image.

        Args:
            data_batch: Unused.
            data_samples: The model's predictions, as dicts with ``gt_label``, and ``knn_index``
                or ``sample_idx`` by which repeated samples are known.

        Raises:
            KeyError: If a prediction has no prototype or no label.
        """
        for sample in data_samples:
            if sample.get('knn_split') == 'bank':
                continue
            for key in (self.cluster_key, 'gt_label'):
                if key not in sample:
                    raise KeyError(
                        f'no {key!r} among the fields of a prediction {sorted(sample)}: '
                        'ClusteringAccuracy needs labeled images, and a model whose predict mode '
                        'names the prototype, such as ibot_mm.IBOT'
                    )
            index = sample.get('knn_index', sample.get('sample_idx'))
            values = (sample['gt_label'], sample[self.cluster_key])
            self.results.append((index, *(int(torch.as_tensor(value)) for value in values)))

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the metrics over all processes, the same in each.

        Args:
            size: Number of samples of the data set; unused, since repeated samples are known by
                their index.
        """
        gathered = [result for part in all_gather_object(self.results) for result in part]
        self.results.clear()
        metrics = self.compute_metrics(gathered)
        return {f'{self.prefix}/{name}': value for name, value in metrics.items()}

    def compute_metrics(self, results: list[tuple[int | None, int, int]]) -> dict[str, float]:
        """Compare prototypes and labels.

        Args:
            results: Index, label and prototype of each image, repeated ones included.

        Raises:
            ValueError: If there is no image.
        """
        if not results:
            raise ValueError('ClusteringAccuracy has seen no image: the validation set is empty')
        if None not in (index for index, *_ in results):
            results = list({index: result for result in results for index in result[:1]}.values())
        labels, clusters = torch.tensor([result[1:] for result in results]).unbind(1)
        return {name: 100 * value for name, value in clustering_metrics(labels, clusters).items()}
