# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Ranking a database by similarity, and how good the ranking is (revisited Oxford and Paris)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

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

    easy: Tensor
    hard: Tensor
    junk: Tensor

    def of_difficulty(self, difficulty: str) -> tuple[Tensor, Tensor]:
        """Return what counts as positive, and what is ignored.

        Args:
            difficulty: 'easy': easy images, hard and junk ignored; 'medium': easy and hard, junk
                ignored; 'hard': hard images, easy and junk ignored.

        Raises:
            ValueError: If ``difficulty`` is none of these.
        """
        if difficulty == 'easy':
            return self.easy, torch.cat([self.junk, self.hard])
        if difficulty == 'medium':
            return torch.cat([self.easy, self.hard]), self.junk
        if difficulty == 'hard':
            return self.hard, torch.cat([self.junk, self.easy])
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
        similarity = torch.cat(
            [part @ F.normalize(rows.to(part), dim=1).T for rows in database.split(CHUNK)],
            dim=1,
        )
        yield from similarity.sort(dim=1, descending=True, stable=True).indices.cpu()


def positions_of(ranking: Tensor, positives: Tensor, ignored: Tensor) -> Tensor:
    """Find the places of the positives in a ranking from which ignored images are taken out.

    Args:
        ranking: Rows of the database (M,), or the first of them.
        positives: Rows that count, any order.
        ignored: Rows taken out.

    Returns:
        From 0, in rising order; positives that the ranking does not have are left out.
    """
    size = 1 + int(max(rows.max() if len(rows) else 0 for rows in (ranking, positives, ignored)))
    kept = torch.ones(size, dtype=torch.bool)
    kept[ignored] = False
    wanted = torch.zeros(size, dtype=torch.bool)
    wanted[positives] = True
    return wanted[ranking[kept[ranking]]].nonzero()[:, 0]


def average_precision(positions: Tensor, num_positives: int) -> float:
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
    rank = positions.double()
    found = torch.arange(len(rank), dtype=rank.dtype)
    before = torch.where(rank == 0, 1.0, found / rank)
    after = (found + 1) / (rank + 1)
    return float((before + after).sum() / 2 / num_positives)


def precision_at(positions: Tensor, ks: Sequence[int]) -> Tensor:
    """Compute the share of positives among the first k, as published.

    k is lowered to the place of the last positive where that is smaller.

    Args:
        positions: Of all positives, rising.
        ks: Numbers of images.

    Returns:
        Shares (len(ks),), NaN if there are no positives.
    """
    if len(positions) == 0:
        return torch.full((len(ks),), torch.nan, dtype=torch.float64)
    places = positions.double() + 1
    limits = torch.tensor(ks, dtype=torch.float64).clamp(max=float(places.max()))
    return (places <= limits[:, None]).sum(dim=1) / limits


class Retrieval(NamedTuple):
    """Quality of the rankings of all queries, as shares; NaN for queries without positives.

    Args:
        average_precisions: Of each query (Q,).
        precisions: Among the first k, (Q, K).
    """

    average_precisions: Tensor
    precisions: Tensor

    @property
    def mean_average_precision(self) -> float:
        """Mean over the queries that have positives."""
        return float(self.average_precisions.nanmean())

    @property
    def mean_precisions(self) -> Tensor:
        """Means (K,) over the queries that have positives."""
        return self.precisions.nanmean(dim=0)


def score_rankings(
    rankings: Sequence[Tensor] | Iterator[Tensor],
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
    scores: dict[str, list[tuple[float, Tensor]]] = {name: [] for name in DIFFICULTIES}
    for ranking, images in zip(rankings, relevant, strict=True):
        for name, found in scores.items():
            positives, ignored = images.of_difficulty(name)
            positions = positions_of(ranking, positives, ignored)
            found.append(
                (average_precision(positions, len(positives)), precision_at(positions, ks))
            )
    return {
        name: Retrieval(
            torch.tensor([precision for precision, _ in found], dtype=torch.float64),
            torch.stack([precisions for _, precisions in found]),
        )
        for name, found in scores.items()
    }
