# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Accuracy of ranked classes."""

from torch import Tensor


def top_k_accuracy(ranked: Tensor, labels: Tensor, k: int = 1) -> float:
    """Compute the share of samples whose class is among the first ``k`` ranked ones, in percent.

    Args:
        ranked: Class ids (N, C), best first; fewer than ``k`` columns are taken as they are.
        labels: The right classes (N,), on any device.
        k: Defaults to 1.
    """
    hits = ranked[:, :k] == labels.to(ranked.device)[:, None]
    return 100 * float(hits.sum()) / len(labels)
