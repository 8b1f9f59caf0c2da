# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Accuracy of the best classifier of a sweep."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from ibot_mm.registry import METRICS


@METRICS.register_module()
class SweepAccuracy(BaseMetric):
    """Accuracy of each classifier of :class:`ibot_mm.LinearSweepHead`, of which the best counts.

    The best is chosen on the very images it is reported for, as published.

    Returns in percent ``sweep/top1``, with five classes or more ``sweep/top5``, then ``sweep/loss``
    (cross-entropy; a mean over images, where the published one is over batches) and
    ``sweep/best_head``, all of the classifier with the highest top-1. Its setting, and the top-1
    of all, are in the log.

    Args:
        collect_device (str): As in every metric. Defaults to 'cpu'.
        prefix (str): Of the names. Defaults to 'sweep'.

    Attributes:
        top1 (list[float]): Of every classifier in the last evaluation, in percent.
    """

    default_prefix = 'sweep'

    def __init__(self, collect_device: str = 'cpu', prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.top1: list[float] = []
        self._sweep: list[dict] = []
        self._num_ranked = 0

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep whether each classifier was right.

        Args:
            data_batch: Unused.
            data_samples: The head's predictions with ``gt_label``, as dicts.

        Raises:
            KeyError: If the predictions are not of a sweep, or have no label.
        """
        for sample in data_samples:
            if 'sweep_loss' not in sample:
                raise KeyError(
                    f'no sweep_loss among the fields of a prediction {sorted(sample)}: '
                    "SweepAccuracy needs head=dict(type='ibot_mm.LinearSweepHead') and labels"
                )
            hits = sample['sweep_ranked'] == sample['gt_label']  # (H, 5)
            self._sweep, self._num_ranked = sample['sweep'], hits.shape[1]
            loss = sample['sweep_loss'].detach()
            self.results.append(
                torch.stack([hits[:, 0].to(loss), hits.any(1).to(loss), loss]).cpu()
            )

    def compute_metrics(self, results: list[Tensor]) -> dict[str, float]:
        """Find the best classifier.

        Args:
            results: Of each image, whether the class is first, is among the first five, and the
                loss, of each classifier: shape (3, H).
        """
        top1, top5, loss = torch.stack(results).double().mean(0)
        best = int(top1.argmax())
        self.top1 = (100 * top1).tolist()
        print_log(
            f'Best of {len(top1)} linear classifiers: {_name(self._sweep[best])}, '
            f'top-1 {self.top1[best]:.2f} %. All: '
            + ', '.join(f'{_name(s)}: {a:.2f}' for s, a in zip(self._sweep, self.top1)),
            logger='current',
        )
        metrics = dict(top1=self.top1[best])
        if self._num_ranked == 5:
            metrics['top5'] = 100 * float(top5[best])
        return metrics | dict(loss=float(loss[best]), best_head=best)


def _name(setting: dict) -> str:
    decay = f' decay {setting["weight_decay"]:g}' if setting['weight_decay'] else ''
    return f'{"LARS" if setting["lars"] else "SGD"} lr {setting["lr"]:g}{decay}'
