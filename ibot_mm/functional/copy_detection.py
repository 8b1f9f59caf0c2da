# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Finding the originals of copied images by the nearest features."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .knn import nearest_neighbors
from .pca_whitening import PCAWhitening
from .retrieval import average_precision

CHUNK = 65536  # database rows compared at once
TOPK = 20


def find_copies(
    database: Iterable[Tensor],
    queries: Tensor,
    topk: int = TOPK,
    whitening: PCAWhitening | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the nearest images of the database.

    Args:
        database: Features (M_i, C), one after the other, such as originals and distractors; each is
            read part by part and may be mapped from a disk.
        queries: Features (Q, C); the search runs on their device.
        topk: Number of neighbors, of the whole database if it has fewer. Defaults to 20.
        whitening: Of both. Defaults to None.

    Returns:
        Cosine similarities (Q, k), falling, and rows of the database (Q, k).
    """
    if whitening is not None:
        queries = whitening.apply(queries)
    precision = torch.promote_types(queries.dtype, torch.float32)
    similarity = queries.new_empty((len(queries), 0), dtype=precision)
    rows = torch.empty((len(queries), 0), dtype=torch.int64, device=queries.device)
    start = 0
    for features in database:
        for part in features.split(CHUNK):
            part = part.to(queries)
            if whitening is not None:
                part = whitening.apply(part)
            found = nearest_neighbors(part, queries, min(topk, len(part)))
            similarity = torch.cat([similarity, found[0]], dim=1)
            rows = torch.cat([rows, found[1] + start], dim=1)
            similarity, order = similarity.topk(min(topk, similarity.shape[1]))
            rows = rows.gather(1, order)
            start += len(part)
    return similarity, rows


def score_copies(neighbors: Tensor, originals: Sequence[Tensor]) -> Tensor:
    """Compute the average precision of each query, over its neighbors alone.

    An original that is not among them is not found, but counts.

    Args:
        neighbors: Rows of the database (Q, k), nearest first.
        originals: Of each query, rows of the database.

    Returns:
        Shares (Q,), float64; NaN for queries without an original.
    """
    return torch.tensor(
        [
            average_precision(torch.isin(found, rows).nonzero()[:, 0].numpy(), len(rows))
            for found, rows in zip(neighbors.cpu(), originals, strict=True)
        ],
        dtype=torch.float64,
    )
