# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The arithmetic is replayed from a recording; here are its definitions and edges."""

import pytest
import torch

from ibot_mm.functional.correspondence import (
    match_patches,
    matching_accuracy,
    overlapping,
    patch_centers,
    strongest_patches,
    true_matches,
)

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


def test_centers_of_a_mirrored_part():
    corners = torch.tensor([[0.5, 0.8, 1.0, 0.0]])
    centers = patch_centers(corners, (1, 4))
    torch.testing.assert_close(centers[0, :, 1], torch.tensor([0.7, 0.5, 0.3, 0.1]))
    torch.testing.assert_close(centers[0, :, 0], torch.full((4,), 0.75))


def test_rows_come_first():
    centers = patch_centers(WHOLE, (2, 3))
    assert centers.shape == (1, 6, 2)
    torch.testing.assert_close(centers[0, 1], torch.tensor([0.25, 0.5]))


def test_similarity_is_the_product_not_the_cosine():
    match, similarity = match_patches(torch.tensor([[1.0, 0]]), torch.tensor([[1.0, 0], [3, 4]]))
    assert match.tolist() == [1] and similarity.tolist() == [3]


def test_halves_that_do_not_overlap():
    left = patch_centers(torch.tensor([[0.0, 0.0, 1.0, 0.4]]), (4, 4))
    right = patch_centers(torch.tensor([[0.0, 0.6, 1.0, 1.0]]), (4, 4))
    assert not overlapping(left, right).any()
    assert overlapping(left, patch_centers(WHOLE, (4, 4))).sum() == 12  # without the first column
    match = torch.zeros(1, 16, dtype=torch.long)
    assert matching_accuracy(match, match, overlapping(left, right), 4).isnan()


def test_radius_is_of_rows_and_columns():
    truth = torch.tensor([[5, 5, 5, 5]])  # row 1, column 1 of a grid of 4 columns
    match = torch.tensor([[5, 0, 7, 13]])
    overlap = torch.ones(1, 4, dtype=torch.bool)
    shares = [float(matching_accuracy(match, truth, overlap, 4, radius)) for radius in range(3)]
    assert shares == [0.25, 0.5, 1.0]


def test_the_same_view_matches_itself():
    centers = patch_centers(WHOLE, (3, 5))
    assert true_matches(centers, centers)[0].tolist() == list(range(15))


@pytest.mark.parametrize('number, expected', [(2, [1, 3]), (12, [1, 3, 0])])
def test_patches_without_attention_are_left_out(number, expected):
    assert strongest_patches(torch.tensor([0.1, 0.5, 0.0, 0.2]), number).tolist() == expected
