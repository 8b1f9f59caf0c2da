# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weighted k-nearest-neighbor classification of frozen features."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

BANK_CHUNK = 65536  # rows of the bank compared at once with one chunk of queries


def nearest_neighbors(
    bank_features: Tensor, query_features: Tensor, k: int, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Find the ``k`` most similar bank rows of each query by cosine similarity.

    Both sides are walked in chunks, so that no more than ``chunk`` x 65,536 similarities exist at
    a time: about 0.5 GiB for 768 channels and any number of features.
    Half precision features are compared in float32. Which of two equally similar rows takes the
    last place is left to :func:`torch.topk`.

    Args:
        bank_features: (M, C), any floating point type. It may lie on another device than the
            queries, and is then moved chunk by chunk.
        query_features: (Q, C); the search runs on its device.
        k: Number of neighbors, 0 to M.
        chunk: Number of queries compared at once. Defaults to 1024.

    Returns:
        Cosine similarities (Q, k) in falling order and the bank rows (Q, k) they belong to.

    Raises:
        ValueError: If ``k`` or ``chunk`` is out of range, or the shapes do not fit.
    """
    if bank_features.ndim != 2 or query_features.ndim != 2:
        raise ValueError(
            'features must be (N, C) matrices, got '
            f'bank {tuple(bank_features.shape)} and query {tuple(query_features.shape)}'
        )
    if bank_features.size(1) != query_features.size(1):
        raise ValueError(
            f'bank features have {bank_features.size(1)} channels and query features '
            f'{query_features.size(1)}: extract both with the same network'
        )
    if not 0 <= k <= len(bank_features):
        raise ValueError(f'k must be in [0, {len(bank_features)}] (the size of the bank), got {k}')
    if chunk < 1:
        raise ValueError(f'chunk must be at least 1, got {chunk}')

    precision = torch.promote_types(query_features.dtype, torch.float32)
    queries = F.normalize(query_features.to(precision), dim=1)
    similarity = queries.new_full((len(queries), k), -torch.inf)
    indices = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)

    # The bank is the outer loop: each of its rows is moved, cast and normalized once.
    for start in range(0, len(bank_features), BANK_CHUNK):
        part = bank_features[start : start + BANK_CHUNK]
        part = F.normalize(part.to(queries.device, precision), dim=1)
        for first in range(0, len(queries), chunk):
            rows = slice(first, first + chunk)
            found, position = (queries[rows] @ part.T).topk(min(k, len(part)))
            candidates = torch.cat([similarity[rows], found], dim=1)
            candidate_indices = torch.cat([indices[rows], position + start], dim=1)
            similarity[rows], order = candidates.topk(k)
            indices[rows] = candidate_indices.gather(1, order)
    return similarity, indices


def vote(similarity: Tensor, labels: Tensor, temperature: float, num_classes: int) -> Tensor:
    """Sum the votes ``exp(similarity / temperature)`` of the neighbors of each class.

    Each query's votes are given relative to its nearest neighbor's, ``exp((similarity - largest)
    / temperature)``: the order of the classes is the same and low temperatures do not overflow.

    Args:
        similarity: (Q, k) cosine similarities.
        labels: (Q, k) class ids of the neighbors.
        temperature: Above 0.
        num_classes: Number of classes C.

    Returns:
        Scores (Q, C); 0 for a class without a neighbor.
    """
    largest = similarity.amax(dim=1, keepdim=True)
    votes = ((similarity - largest) / temperature).exp()
    return votes.new_zeros(len(votes), num_classes).scatter_add_(1, labels, votes)


def rank_classes(
    similarity: Tensor,
    labels: Tensor,
    ks: Sequence[int],
    temperature: float,
    num_classes: int,
    chunk: int = 1024,
    top: int = 5,
) -> dict[int, Tensor]:
    """Rank the classes by the votes of the first k neighbors, for several k.

    Args:
        similarity: (Q, K) cosine similarities in falling order.
        labels: (Q, K) class ids of the neighbors.
        ks: Numbers of neighbors, 1 to K.
        temperature: Above 0.
        num_classes: Number of classes C.
        chunk: Number of queries whose scores (chunk, C) exist at a time. Defaults to 1024.
        top: How many classes to return for each query. Defaults to 5.

    Returns:
        For each k the class ids (Q, min(top, C)), best first. Classes of equal score, those
        without any vote included, come in the order of their ids.
    """
    ranked: dict[int, Tensor] = {}
    for k in ks:
        parts = zip(similarity[:, :k].split(chunk), labels[:, :k].split(chunk), strict=True)
        scores = (vote(*part, temperature, num_classes) for part in parts)
        ranked[k] = torch.cat(
            [part.sort(dim=1, descending=True, stable=True).indices[:, :top] for part in scores]
        )
    return ranked


def weighted_knn(
    bank_features: Tensor,
    bank_labels: Tensor,
    query_features: Tensor,
    ks: Sequence[int] = (10, 20, 100, 200),
    temperature: float = 0.07,
    num_classes: int | None = None,
    chunk: int = 1024,
    top: int = 5,
) -> dict[int, Tensor]:
    """Classify queries by the votes of their nearest neighbors in a labeled bank.

    The protocol of iBOT's k-NN evaluation, which follows DINO: features are L2-normalized, the k
    neighbors of highest cosine similarity vote for their class with weight
    ``exp(similarity / temperature)``. One search for the largest k serves all of them.

    Args:
        bank_features: (M, C) features of the labeled bank, of any floating point type and on
            any device.
        bank_labels: (M,) class ids, integers from 0.
        query_features: (Q, C) features to classify; the work is done on their device.
        ks: Numbers of neighbors. Defaults to (10, 20, 100, 200).
        temperature: Defaults to 0.07.
        num_classes: Number of classes. Defaults to None: the largest bank label + 1.
        chunk: Number of queries treated at once, which bounds memory; see
            :func:`nearest_neighbors`. Defaults to 1024.
        top: How many classes to return for each query. Defaults to 5.

    Returns:
        For each k the predicted class ids (Q, min(top, number of classes)), best first; see
        :func:`rank_classes`.

    Raises:
        ValueError: If a k exceeds the bank, the temperature is not positive, a label is out of
            range or the shapes do not fit.
    """
    if not ks:
        raise ValueError('ks is empty: name at least one number of neighbors')
    if temperature <= 0:
        raise ValueError(f'temperature must be above 0, got {temperature}')
    if bank_labels.shape != bank_features.shape[:1]:
        raise ValueError(
            f'expected one label for each of {len(bank_features)} bank features, '
            f'got labels of shape {tuple(bank_labels.shape)}'
        )
    for k in ks:
        if not 1 <= k <= len(bank_features):
            raise ValueError(f'k={k} is not in [1, {len(bank_features)}], the size of the bank')
    if num_classes is None:
        num_classes = int(bank_labels.max()) + 1
    if bank_labels.min() < 0 or bank_labels.max() >= num_classes:
        raise ValueError(
            f'bank labels must be in [0, {num_classes}), '
            f'got {int(bank_labels.min())} to {int(bank_labels.max())}'
        )
    similarity, indices = nearest_neighbors(bank_features, query_features, max(ks), chunk)
    labels = bank_labels.to(indices.device, torch.long)[indices]
    return rank_classes(similarity, labels, ks, temperature, num_classes, chunk, top)
