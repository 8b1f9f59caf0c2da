# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest

from ibot_mm.functional.video_scores import (
    boundary_accuracy,
    mask_boundary,
    mean_recall_decay,
    region_similarity,
    score_frame,
)


def square(top, side=10, size=(40, 40)):
    mask = np.zeros(size, bool)
    mask[top : top + side, 5 : 5 + side] = True
    return mask


NOTHING = np.zeros((40, 40), bool)


@pytest.mark.parametrize(
    'mask, truth, region, boundary',
    [
        (square(5), square(5), 1, 1),
        (NOTHING, NOTHING, 1, 1),
        (NOTHING, square(5), 0, 0),
        (square(5), NOTHING, 0, 0),
        (square(5), square(20), 0, 0),
        (square(5), square(6), 9 / 11, 1),  # one pixel is near
    ],
)
def test_scores(mask, truth, region, boundary):
    assert region_similarity(mask, truth) == pytest.approx(region)
    assert boundary_accuracy(mask, truth) == pytest.approx(boundary)


def test_boundary_lies_inside_above_and_left():
    mask = np.zeros((5, 5), bool)
    mask[2:4, 2:4] = True
    expected = np.zeros((5, 5), bool)
    expected[1:4, 1:4] = True
    expected[2, 2] = False
    assert np.array_equal(mask_boundary(mask), expected)
    whole = np.ones((5, 5), bool)
    assert not mask_boundary(whole).any()


def test_a_larger_tolerance_forgives_more():
    found = [boundary_accuracy(square(5), square(8), share) for share in (0.008, 0.02, 0.06)]
    assert found[0] < found[1] < found[2] == 1


def test_sums():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    mean, recall, decay = mean_recall_decay(scores)
    assert mean == pytest.approx(0.55) and recall == pytest.approx(4 / 8)
    # bounds 1, 2.75, 4.5, 6.25, 8 -> 1, 3, 5 (4.5 rounds up), 6, 8
    assert decay == pytest.approx(0.8 - (0.4 + 0.3 + 0.2) / 3)
    assert mean_recall_decay(np.array([0.7])) == pytest.approx((0.7, 1, 0))


def test_unknown_pixels_do_not_count():
    truth = square(5).astype(np.uint8)
    mask = square(5).astype(np.uint8) * 1
    mask[30:35, 30:35] = 1
    truth[28:38, 28:38] = 255
    region, boundary = score_frame(mask, truth, 2)
    assert region.tolist() == [1, 1] and boundary.tolist() == [1, 1]  # the second is nowhere
