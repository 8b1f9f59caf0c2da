# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch

from ibot_mm.functional import retrieval
from ibot_mm.functional.retrieval import (
    RelevantImages,
    average_precision,
    places_of,
    positions_of,
    precision_at,
    rank_database,
    score_rankings,
)


def test_ranking_in_parts_is_the_same(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    database, queries = (torch.randn(n, 8, generator=generator).double() for n in (50, 7))
    whole = torch.stack(list(rank_database(database, queries)))
    monkeypatch.setattr(retrieval, 'CHUNK', 13)
    parts = torch.stack(list(rank_database(database, queries, num_similarities=100)))
    assert torch.equal(whole, parts)
    similarity = torch.nn.functional.cosine_similarity(queries[:, None], database, dim=2)
    assert (similarity.gather(1, whole).diff(dim=1) < 1e-12).all()


def test_equal_images_keep_their_order():
    database = torch.eye(3).repeat(4, 1)
    (ranking,) = rank_database(database, torch.tensor([[1.0, 0.0, 0.0]]))
    assert ranking.tolist() == [0, 3, 6, 9, 1, 2, 4, 5, 7, 8, 10, 11]


def test_ignored_images_are_taken_out():
    ranking = np.array([4, 2, 0, 5, 1, 3])
    places = places_of(ranking)
    assert places.tolist() == [2, 4, 1, 5, 0, 3]
    assert positions_of(places, np.array([3, 0]), np.array([2, 1])).tolist() == [1, 3]
    nothing = np.array([], dtype=int)
    assert positions_of(places, np.array([3, 0]), nothing).tolist() == [2, 5]


def test_average_precision_by_hand():
    assert average_precision(np.array([0, 1]), 2) == 1
    # (0/1 + 1/2) / 2, then (1/3 + 2/4) / 2, of three positives
    expected = (0.25 + (1 / 3 + 1 / 2) / 2) / 3
    assert average_precision(np.array([1, 3]), 3) == pytest.approx(expected)
    assert np.isnan(average_precision(np.array([], dtype=int), 0))


def test_precision_stops_at_the_last_positive():
    assert precision_at(np.array([0, 2]), (1, 2, 10)).tolist() == [1, 1 / 2, 2 / 3]


def test_queries_without_positives_do_not_count():
    none = np.array([], dtype=int)
    relevant = [
        RelevantImages(np.array([1]), none, np.array([0])),
        RelevantImages(none, np.array([2]), none),
    ]
    rankings = [torch.arange(3)] * 2
    scores = score_rankings(rankings, relevant, (10,))
    assert scores['easy'].mean_average_precision == 1  # of the first query alone
    assert np.isnan(scores['easy'].average_precisions).tolist() == [False, True]
    assert scores['hard'].mean_precisions.item() == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="got 'simple'"):
        relevant[0].of_difficulty('simple')
