# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Agreement of clusters and classes: NMI, ARI, FMI, and accuracy of the best assignment."""

from torch import Tensor

from ibot_mm.functional.clustering import contingency


def clustering_metrics(labels: Tensor, predictions: Tensor) -> dict[str, float]:
    """Compare cluster ids with classes (paper, section 4.1, unsupervised classification).

    Args:
        labels: Class ids (N,), from 0.
        predictions: Cluster ids (N,), from 0; there may be more clusters than classes.

    Returns:
        ``nmi`` (arithmetic mean), ``ari``, ``fmi`` as scikit-learn defines them, and ``acc``, the
        share of samples whose cluster is that of their class in the best one-to-one assignment.
        All as shares. The published code shifts cluster ids when the first is never used, which
        breaks its assignment; this is the true optimum.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If there are no samples, shapes differ or an id is negative.
    """
    try:
        from scipy.optimize import linear_sum_assignment
        from sklearn.metrics import (
            adjusted_rand_score,
            fowlkes_mallows_score,
            normalized_mutual_info_score,
        )
    except ImportError as error:
        raise ImportError(
            'clustering metrics need scikit-learn: pip install scikit-learn'
        ) from error

    counts = contingency(labels.cpu(), predictions.cpu())
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    pair = labels.cpu().numpy(), predictions.cpu().numpy()
    return dict(
        nmi=float(normalized_mutual_info_score(*pair)),
        ari=float(adjusted_rand_score(*pair)),
        fmi=float(fowlkes_mallows_score(*pair)),
        acc=float(counts[rows, columns].sum()) / len(labels),
    )
