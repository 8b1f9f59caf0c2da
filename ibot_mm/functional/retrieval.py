# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Ranking a database by similarity, and how good the ranking is (revisited Oxford and Paris)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

DIFFICULTIES = ('easy', 'medium', 'hard')
SIMILARITIES = 2**24  # in memory at once: 64 MiB in float32
CHUNK = 65536  # database rows compared at once


class RelevantImages(NamedTuple):
    """Images of the database that show what a query shows, by how well, int64 each.

    Args:
        easy: Clearly visible.
        hard: Seen from aside, far away or half hidden.
        junk: Too little of it to count for or against.
    """

    easy: np.ndarray
    hard: np.ndarray
    junk: np.ndarray

    def of_difficulty(self, difficulty: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what counts as positive, and what is ignored.

        Args:
            difficulty: 'easy': easy images, hard and junk ignored; 'medium': easy and hard, junk
                ignored; 'hard': hard images, easy and junk ignored.

        Raises:
            ValueError: If ``difficulty`` is none of these.
        """
        if difficulty == 'easy':
            return self.easy, np.concatenate([self.junk, self.hard])
        if difficulty == 'medium':
            return np.concatenate([self.easy, self.hard]), self.junk
        if difficulty == 'hard':
            return self.hard, np.concatenate([self.junk, self.easy])
        raise ValueError(f'difficulty must be one of {DIFFICULTIES}, got {difficulty!r}')


def rank_database(
    database: Tensor, queries: Tensor, num_similarities: int = SIMILARITIES
) -> Iterator[Tensor]:
    """Rank all of a database for one query after the other.

    Memory does not grow with the database, which may be mapped from a disk, until a single query's
    similarities exceed ``num_similarities``: as many queries as that allows are compared in one
    pass over it.

    Args:
        database: Features (M, C).
        queries: Features (Q, C); the search runs on their device.
        num_similarities: In memory at once. Defaults to 2 ** 24.

    Yields:
        For each query, the database's rows (M,) by falling cosine similarity, equal ones in their
        order.
    """
    precision = torch.promote_types(queries.dtype, torch.float32)
    queries = F.normalize(queries.to(precision), dim=1)
    for part in queries.split(max(1, num_similarities // max(1, len(database)))):
        similarity = part.new_empty(len(part), len(database))
        for start in range(0, len(database), CHUNK):
            rows = F.normalize(database[start : start + CHUNK].to(part), dim=1)
            # In place: small results kept one by one would leave the heap in pieces.
            similarity[:, start : start + CHUNK] = part @ rows.T
        yield from similarity.sort(dim=1, descending=True, stable=True).indices.cpu()


def places_of(ranking: np.ndarray) -> np.ndarray:
    """Return the place of each of a database's rows (M,) in a ranking of all of them (M,)."""
    places = np.empty_like(ranking)
    places[ranking] = np.arange(len(ranking))
    return places


def positions_of(places: np.ndarray, positives: np.ndarray, ignored: np.ndarray) -> np.ndarray:
    """Find the places of the positives in a ranking from which ignored images are taken out.

    Args:
        places: Of the database's rows (M,), see :func:`places_of`.
        positives: Rows that count, any order.
        ignored: Rows taken out.

    Returns:
        From 0, in rising order.
    """
    found, without = np.sort(places[positives]), np.sort(places[ignored])
    return found - np.searchsorted(without, found)


def average_precision(positions: np.ndarray, num_positives: int) -> float:
    """Compute the area under precision over recall, by trapezoids, as published.

    For the j-th positive at place r, both from 0, (j / r + (j + 1) / (r + 1)) / 2 is added, the
    first term 1 where r is 0, and the sum divided by the number of positives.

    Args:
        positions: Of the positives found, rising.
        num_positives: Of all positives.

    Returns:
        A share, or NaN if there are no positives.
    """
    if num_positives == 0:
        return float('nan')
    found = np.arange(len(positions), dtype=np.float64)
    before = np.where(positions == 0, 1.0, found / np.maximum(positions, 1))
    after = (found + 1) / (positions + 1)
    return float((before + after).sum() / 2 / num_positives)


def precision_at(positions: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Compute the share of positives among the first k, as published.

    k is lowered to the place of the last positive where that is smaller.

    Args:
        positions: Of all positives, rising.
        ks: Numbers of images.

    Returns:
        Shares (len(ks),), NaN if there are no positives.
    """
    if len(positions) == 0:
        return np.full(len(ks), np.nan)
    limits = np.minimum(np.asarray(ks), positions[-1] + 1)
    return np.searchsorted(positions, limits) / limits


class Retrieval(NamedTuple):
    """Quality of the rankings of all queries, as shares; NaN for queries without positives.

    Args:
        average_precisions: Of each query (Q,).
        precisions: Among the first k, (Q, K).
    """

    average_precisions: np.ndarray
    precisions: np.ndarray

    @property
    def mean_average_precision(self) -> float:
        """Mean over the queries that have positives; NaN if none has."""
        there = ~np.isnan(self.average_precisions)
        return float(self.average_precisions[there].mean()) if there.any() else float('nan')

    @property
    def mean_precisions(self) -> np.ndarray:
        """Means (K,) over the queries that have positives; NaN if none has."""
        there = ~np.isnan(self.average_precisions)
        if not there.any():
            return np.full(self.precisions.shape[1], np.nan)
        return self.precisions[there].mean(axis=0)


def score_rankings(
    rankings: Iterable[Tensor],
    relevant: Sequence[RelevantImages],
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, Retrieval]:
    """Score rankings by all difficulties.

    Args:
        rankings: Of each query, rows of the database (M,).
        relevant: Images of each query.
        ks: Numbers of images of the precisions. Defaults to 1, 5, 10.

    Returns:
        Difficulty -> scores.
    """
    precisions: dict[str, list[float]] = {name: [] for name in DIFFICULTIES}
    at_k: dict[str, list[np.ndarray]] = {name: [] for name in DIFFICULTIES}
    for ranking, images in zip(rankings, relevant, strict=True):
        places = places_of(ranking.numpy())
        for name in DIFFICULTIES:
            positives, ignored = images.of_difficulty(name)
            positions = positions_of(places, positives, ignored)
            precisions[name].append(average_precision(positions, len(positives)))
            at_k[name].append(precision_at(positions, ks))
    return {
        name: Retrieval(np.array(precisions[name]), np.array(at_k[name])) for name in DIFFICULTIES
    }
