# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import pytest
import torch
from torch import Tensor

from ibot_mm.functional import knn
from ibot_mm.functional.knn import nearest_neighbors, rank_classes, vote, weighted_knn


def brute_force(
    bank: Tensor, labels: Tensor, query: Tensor, k: int, temperature: float, num_classes: int
) -> tuple[list[list[float]], list[list[int]]]:
    """Scores and ranked classes of each query by plain loops over Python floats."""
    all_scores, all_ranked = [], []
    for features in query.tolist():
        similarities = []
        for row in bank.tolist():
            product = sum(a * b for a, b in zip(features, row, strict=True))
            norms = math.hypot(*features) * math.hypot(*row)
            similarities.append(product / norms)
        nearest = sorted(range(len(bank)), key=lambda i: -similarities[i])[:k]
        scores = [0.0] * num_classes
        for neighbor in nearest:
            scores[labels[neighbor]] += math.exp(similarities[neighbor] / temperature)
        all_scores.append(scores)
        all_ranked.append(sorted(range(num_classes), key=lambda c: -scores[c]))
    return all_scores, all_ranked


@pytest.fixture
def data() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(60, 8, generator=generator)
    labels = torch.randint(7, (60,), generator=generator)
    return bank, labels, torch.randn(23, 8, generator=generator)


@pytest.mark.parametrize('temperature', [0.07, 1.0])
@pytest.mark.parametrize('k', [1, 3, 20, 60])
def test_equals_brute_force(data, k, temperature):
    bank, labels, query = data
    _, ranked = brute_force(bank, labels, query, k, temperature, 7)
    predictions = weighted_knn(bank.double(), labels, query.double(), (k,), temperature, 7)[k]
    assert predictions.tolist() == [classes[:5] for classes in ranked]


def test_scores_are_the_published_votes_up_to_a_factor(data):
    bank, labels, query = (part.double() if part.is_floating_point() else part for part in data)
    expected = torch.tensor(brute_force(bank, labels, query, 20, 0.07, 7)[0], dtype=torch.float64)
    similarity, indices = nearest_neighbors(bank, query, 20)
    scores = vote(similarity, labels[indices], 0.07, 7)
    scale = (similarity[:, :1] / 0.07).exp()
    torch.testing.assert_close(scores * scale, expected, rtol=1e-10, atol=0)


def test_votes_of_known_value():
    similarity = torch.tensor([[1.0, 0.5, 0.5]])
    labels = torch.tensor([[2, 0, 0]])
    scores = vote(similarity, labels, temperature=0.5, num_classes=4)
    torch.testing.assert_close(scores, torch.tensor([[2 * math.exp(-1), 0.0, 1.0, 0.0]]))


def test_low_temperature_does_not_overflow():
    scores = vote(torch.tensor([[1.0, 0.9]]), torch.tensor([[1, 0]]), 0.001, 2)
    assert scores.tolist() == [[pytest.approx(math.exp(-100), abs=1e-30), 1.0]]


def test_neighbors_are_sorted_by_similarity(data):
    bank, _, query = data
    similarity, indices = nearest_neighbors(bank, query, 60)
    assert (similarity.diff(dim=1) <= 0).all()
    assert (indices.sort(dim=1).values == torch.arange(60)).all()
    cosine = torch.cosine_similarity(query[:, None], bank[indices], dim=2)
    torch.testing.assert_close(similarity, cosine)


@pytest.mark.parametrize('bank_chunk', [1, 7, 60, 100])
@pytest.mark.parametrize('chunk', [1, 5, 23, 1000])
def test_result_does_not_depend_on_chunks(data, chunk, bank_chunk, monkeypatch):
    bank, labels, query = data
    expected = weighted_knn(bank, labels, query, (1, 20, 60))
    monkeypatch.setattr(knn, 'BANK_CHUNK', bank_chunk)
    result = weighted_knn(bank, labels, query, (1, 20, 60), chunk=chunk)
    assert all(torch.equal(result[k], expected[k]) for k in expected)


def test_one_search_for_all_k_equals_one_for_each(data):
    bank, labels, query = data
    together = weighted_knn(bank, labels, query, (1, 10, 40))
    for k, predictions in together.items():
        assert torch.equal(predictions, weighted_knn(bank, labels, query, (k,))[k])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_features(data, dtype):
    bank, labels, query = data
    bank, query = bank.to(dtype), query.to(dtype)
    half = weighted_knn(bank, labels, query, (10,))[10]
    assert torch.equal(half, weighted_knn(bank.float(), labels, query.float(), (10,))[10])


def test_length_of_features_has_no_influence(data):
    bank, labels, query = data
    scale = torch.linspace(0.1, 50, 60)[:, None]
    plain = weighted_knn(bank, labels, query, (10,))[10]
    assert torch.equal(plain, weighted_knn(bank * scale, labels, query * 3, (10,))[10])


def test_classes_of_equal_score_come_in_order():
    similarity = torch.full((1, 4), 0.5)
    ranked = rank_classes(similarity, torch.tensor([[5, 3, 5, 3]]), (4,), 0.07, 8, top=8)[4]
    assert ranked.tolist() == [[3, 5, 0, 1, 2, 4, 6, 7]]


def test_repeated_bank_rows_all_vote():
    bank = torch.tensor([[1.0, 0.0]] * 3 + [[1.0, 0.01]] * 2)
    labels = torch.tensor([1, 1, 1, 0, 0])
    assert weighted_knn(bank, labels, torch.tensor([[1.0, 0.0]]), (3, 5))[5][0, 0] == 1


def test_fewer_classes_than_top(data):
    bank, labels, query = data
    assert weighted_knn(bank, labels % 3, query, (10,))[10].shape == (23, 3)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(ks=(10, 61)), r'k=61 is not in \[1, 60\]'),
        (dict(ks=(0,)), 'k=0'),
        (dict(ks=()), 'ks is empty'),
        (dict(temperature=0.0), 'temperature must be above 0'),
        (dict(num_classes=3), r'labels must be in \[0, 3\)'),
        (dict(bank_labels=torch.zeros(59, dtype=torch.long)), 'one label for each of 60'),
        (dict(query_features=torch.zeros(4, 9)), '8 channels and query features 9'),
        (dict(query_features=torch.zeros(4)), r'\(N, C\) matrices'),
        (dict(chunk=0), 'chunk must be at least 1'),
    ],
)
def test_bad_input(data, change, message):
    arguments = dict(bank_features=data[0], bank_labels=data[1], query_features=data[2], ks=(10,))
    with pytest.raises(ValueError, match=message):
        weighted_knn(**arguments | change)
