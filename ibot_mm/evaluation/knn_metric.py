# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weighted k-NN accuracy as an mmengine metric."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.dist import all_gather, all_reduce, get_rank
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from ibot_mm.functional.knn import nearest_neighbors, rank_classes
from ibot_mm.registry import METRICS

SPLITS = ('bank', 'query')
QUERY_CHUNK = 8192  # queries whose candidate neighbors are exchanged at once


@METRICS.register_module()
class KNNAccuracy(BaseMetric):
    """Accuracy of a weighted k-NN classifier on frozen features.

    Evaluates samples of :class:`~ibot_mm.datasets.KNNSplits`: the features of its bank vote for
    the class of each of its queries, see :func:`~ibot_mm.functional.knn.weighted_knn`. The model
    must put each image's feature, a vector, into its ``data_samples`` under ``feature_key``.

    Features are L2-normalized and kept on the CPU. In several processes each keeps its part of
    the bank: the queries' features are gathered, every process finds its nearest neighbors for
    all of them, and the candidates are gathered and merged. Samples that the sampler repeated are
    dropped. The numbers do not depend on the number of processes.

    A k above the size of the bank is replaced by that size with one warning, and keeps its name:
    the size is known only after the features have been computed, when stopping would waste them.

    Args:
        ks: Numbers of neighbors. Defaults to (10, 20, 100, 200).
        temperature: Temperature of the votes. Defaults to 0.07.
        feature_key: Field of the data sample that holds the feature. Defaults to 'feature'.
        dtype: 'float32' or 'float16' for features kept in half the memory (1.3 million features
            of 768 channels take 4 and 2 GB in all processes together). Defaults to 'float32'.
        prefix: Prefix of the metric's names. Defaults to 'knn'.

    Returns in percent, for each k, ``knn/top1_k20`` and ``knn/top5_k20``.
    """

    default_prefix = 'knn'

    def __init__(
        self,
        ks: Sequence[int] = (10, 20, 100, 200),
        temperature: float = 0.07,
        feature_key: str = 'feature',
        dtype: str = 'float32',
        prefix: str | None = 'knn',
    ) -> None:
        super().__init__(prefix=prefix)
        if not ks or any(k < 1 for k in ks):
            raise ValueError(f'ks must name numbers of neighbors of at least 1, got {ks}')
        if temperature <= 0:
            raise ValueError(f'temperature must be above 0, got {temperature}')
        if dtype not in ('float32', 'float16'):
            raise ValueError(f"dtype must be 'float32' or 'float16', got {dtype!r}")
        self.ks = tuple(ks)
        self.temperature = temperature
        self.feature_key = feature_key
        self.dtype = getattr(torch, dtype)
        self._warned = False

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the features, labels and marks of a batch.

        Args:
            data_batch: Unused.
            data_samples: The model's predictions, as dicts with the feature (C,) under
                ``feature_key``, ``gt_label``, ``knn_split`` and ``knn_index``.

        Raises:
            KeyError: If one of these is missing.
            ValueError: If a sample does not have exactly one label.
            FloatingPointError: If a feature is not finite.
        """
        for sample in data_samples:
            self._check_sample(sample)
        features = torch.stack([sample[self.feature_key] for sample in data_samples])
        features = F.normalize(features.detach().float(), dim=1).cpu()
        finite = features.isfinite().all(dim=1)
        if not finite.all():
            sample = data_samples[int(finite.logical_not().nonzero()[0])]
            name = sample.get('img_path', f'sample {sample["knn_index"]}')
            raise FloatingPointError(
                f'the feature of {name} is not finite, and k-NN has no meaning: the network has '
                'diverged or its precision is too low. Look at the loss, or evaluate in float32'
            )
        labels = torch.stack([torch.as_tensor(s['gt_label']).flatten()[0] for s in data_samples])
        index = torch.tensor([s['knn_index'] for s in data_samples])
        split = torch.tensor([SPLITS.index(s['knn_split']) for s in data_samples])
        marks = torch.stack([index, labels.cpu().long(), split], dim=1)
        self.results.append((features.to(self.dtype), marks))

    def _check_sample(self, sample: dict) -> None:
        if self.feature_key not in sample:
            raise KeyError(
                f'no {self.feature_key!r} among the fields of a prediction {sorted(sample)}: the '
                f"model's predict mode must set it on each data sample, or set the metric's "
                'feature_key'
            )
        if 'knn_split' not in sample or 'knn_index' not in sample:
            raise KeyError(
                "no 'knn_split' and 'knn_index' in a prediction: use ibot_mm.KNNSplits as "
                "the dataloader's dataset, and a model that returns the data samples it was given"
            )
        if 'gt_label' not in sample or torch.as_tensor(sample['gt_label']).numel() != 1:
            raise ValueError(f'k-NN needs exactly one label for each sample, got {sample}')

    def evaluate(self, size: int) -> dict[str, float]:
        """Compute the metrics after all batches have been processed.

        Args:
            size: Number of samples of the data set; unused, since repeated samples are known by
                their index.

        Returns:
            Metrics by name, prefix included, the same in every process.
        """
        metrics = self.compute_metrics(self.results)
        self.results.clear()
        return {f'{self.prefix}/{name}': value for name, value in metrics.items()}

    def compute_metrics(self, results: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Compute the accuracies from the batches of this and all other processes.

        Args:
            results: For each batch of this process the features (B, C) and the marks (B, 3):
                index, label, and the position of the split in ``SPLITS``.

        Returns:
            Top-1 and top-5 accuracy in percent for each k.

        Raises:
            ValueError: If no sample of one of the splits has come.
        """
        features, marks = _join(results, self.dtype)
        kept = _first_of_each(marks[:, 0])
        bank, query = (kept & (marks[:, 2] == number) for number in range(len(SPLITS)))
        bank_features, bank_labels = features[bank], marks[bank, 1]  # of this process
        query_features, targets = _gather_rows(features[query]), _gather_rows(marks[query, 1])
        all_bank_labels = _gather_rows(bank_labels)
        bank_size = len(all_bank_labels)
        if bank_size == 0 or len(targets) == 0:
            raise ValueError(
                f'k-NN needs both splits, got {bank_size} bank and {len(targets)} query samples'
            )
        num_classes = int(torch.cat([all_bank_labels, targets]).max()) + 1
        neighbors = self._neighbors(bank_size)  # by k

        correct = torch.zeros(len(self.ks), 2, dtype=torch.long)  # top-1 and top-5 of each k
        for start in range(0, len(targets), QUERY_CHUNK):
            rows = slice(start, start + QUERY_CHUNK)
            similarity, labels = _search(
                bank_features, bank_labels, query_features[rows], max(neighbors.values())
            )
            ranked = rank_classes(
                similarity, labels, sorted(set(neighbors.values())), self.temperature, num_classes
            )
            for counts, k in zip(correct, self.ks, strict=True):
                hits = ranked[neighbors[k]].cpu() == targets[rows, None]
                counts += torch.stack([hits[:, 0].sum(), hits.sum()])
        names = [f'top{top}_k{k}' for k in self.ks for top in (1, 5)]
        return dict(zip(names, (100 * correct.flatten() / len(targets)).tolist(), strict=True))

    def _neighbors(self, bank_size: int) -> dict[int, int]:
        """Map each k to the number of neighbors that the bank allows."""
        too_large = [k for k in self.ks if k > bank_size]
        if too_large and not self._warned:
            self._warned = True
            print_log(
                f'{type(self).__name__}: the bank holds {bank_size} samples, so for '
                f'k in {too_large} all of them vote. Set ks to numbers up to {bank_size}',
                logger='current',
                level=logging.WARNING,
            )
        return {k: min(k, bank_size) for k in self.ks}


def _join(results: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Join the batches of this process, which may have none."""
    channels = torch.tensor(results[0][0].size(1) if results else 0)
    all_reduce(channels, 'max')
    features = [torch.empty(0, int(channels), dtype=dtype)]
    marks = [torch.empty(0, 3, dtype=torch.long)]
    for batch_features, batch_marks in results:
        features.append(batch_features)
        marks.append(batch_marks)
    return torch.cat(features), torch.cat(marks)


def _first_of_each(index: Tensor) -> Tensor:
    """Mark the samples of this process of which no copy comes before in all processes' samples."""
    sizes = [int(size) for size in all_gather(torch.tensor(len(index)))]
    ordered, order = _gather_rows(index).sort(stable=True)
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return torch.empty_like(first).scatter_(0, order, first).split(sizes)[get_rank()]


def _gather_rows(rows: Tensor) -> Tensor:
    """Concatenate the rows of all processes, whose numbers may differ."""
    sizes = [int(size) for size in all_gather(torch.tensor(len(rows)))]
    padding = rows.new_zeros(max(sizes) - len(rows), *rows.shape[1:])
    parts = all_gather(torch.cat([rows, padding]))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def _search(
    bank_features: Tensor, bank_labels: Tensor, query_features: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Find the k nearest neighbors among the banks of all processes.

    Returns similarities and labels (Q, k), the same in every process.
    """
    queries = query_features.to(get_device())
    found = min(k, len(bank_labels))  # this process's part may hold fewer
    similarity, indices = nearest_neighbors(bank_features, queries, found)
    labels = bank_labels.to(indices.device)[indices]
    similarity = F.pad(similarity, (0, k - found), value=-torch.inf)
    labels = F.pad(labels, (0, k - found))
    candidates = torch.cat(all_gather(similarity.contiguous()), dim=1)
    candidate_labels = torch.cat(all_gather(labels.contiguous()), dim=1)
    similarity, order = candidates.topk(k)
    return similarity, candidate_labels.gather(1, order)
