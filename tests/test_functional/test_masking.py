# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest

from ibot_mm.functional.masking import block_mask, random_mask, sample_mask_ratio

PUBLISHED = [(0.0, 0.0), (0.3, 0.2)]


def masks_of(function, count, number=300, size=14, seed=0):
    rng = np.random.default_rng(seed)
    return np.stack([function(size, size, count, rng) for _ in range(number)])


def published_block_mask(height, width, high, rng):
    """The published loop, cell by cell, as facts to compare the distribution with."""
    mask = np.zeros((height, width), dtype=bool)
    count = 0
    while count < high:
        left_over, added = high - count, 0
        for _ in range(10):
            low = (min(height, width) // 3) ** 2
            area = low + (left_over - low) * rng.random()
            aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
            h, w = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
            if w < width and h < height:
                top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
                new = h * w - mask[top : top + h, left : left + w].sum()
                if 0 < new <= left_over:
                    mask[top : top + h, left : left + w] = True
                    added = new
                    break
        if not added:
            break
        count += added
    return mask


def test_ratio_picks_a_pair_and_is_uniform_within_it():
    rng = np.random.default_rng(0)
    drawn = np.array([sample_mask_ratio(PUBLISHED, rng) for _ in range(20000)])
    masked = drawn[drawn > 0]
    assert abs(len(masked) / len(drawn) - 0.5) < 0.015
    assert 0.1 <= masked.min() and masked.max() <= 0.5
    assert abs(masked.mean() - 0.3) < 0.005
    assert abs(masked.std() - 0.4 / np.sqrt(12)) < 0.005


def test_ratio_without_width_is_the_mean():
    assert sample_mask_ratio([(0.7, 0.0)]) == 0.7


@pytest.mark.parametrize('count', [0, 0.9, 1, 10, 19.6, 58.8, 97.3, 196])
@pytest.mark.parametrize('function', [block_mask, random_mask])
def test_never_past_the_count(function, count):
    masks = masks_of(function, count)
    assert masks.dtype == bool and masks.shape[1:] == (14, 14)
    assert masks.sum((1, 2)).max() <= count


@pytest.mark.parametrize('count', [0, 0.9, 19.6, 196])
def test_random_mask_has_the_whole_part_of_the_count(count):
    assert (masks_of(random_mask, count).sum((1, 2)) == int(count)).all()


def test_random_mask_is_uniform_over_the_grid():
    frequency = masks_of(random_mask, 98, number=2000).mean(0)
    assert np.abs(frequency - 0.5).max() < 0.06


@pytest.mark.parametrize('count', [19.6, 58.8, 98.0])
def test_block_mask_comes_close_to_the_count(count):
    total = masks_of(block_mask, count).sum((1, 2))
    assert total.mean() > 0.85 * count


def test_block_mask_touches_every_border():
    touched = masks_of(block_mask, 58.8).any(0)
    assert touched[0].all() and touched[-1].all()
    assert touched[:, 0].all() and touched[:, -1].all()


def test_block_mask_is_made_of_blocks():
    """Neighbors of masked patches are far more often masked than for single patches."""

    def agreement(masks):
        return (masks[:, 1:] & masks[:, :-1]).sum() / masks[:, :-1].sum()

    assert agreement(masks_of(block_mask, 58.8)) > agreement(masks_of(random_mask, 58.8)) + 0.3


@pytest.mark.parametrize(
    ('size', 'count'), [((14, 14), 58.8), ((14, 14), 21.0), ((6, 6), 14.4), ((7, 10), 30.5)]
)
def test_block_mask_has_the_published_distribution(size, count):
    ours, published = (
        np.stack([function(*size, count, rng) for _ in range(1500)])
        for function, rng in (
            (block_mask, np.random.default_rng(0)),
            (published_block_mask, np.random.default_rng(1)),
        )
    )
    assert abs(ours.sum((1, 2)).mean() - published.sum((1, 2)).mean()) < 0.02 * count
    assert abs(ours.sum((1, 2)).std() - published.sum((1, 2)).std()) < 0.02 * count
    assert np.abs(ours.mean(0) - published.mean(0)).max() < 0.07
    runs = [(masks[:, 1:] & masks[:, :-1]).mean() for masks in (ours, published)]
    assert abs(runs[0] - runs[1]) < 0.01


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 2), (3, 7)])
def test_block_mask_stops_when_no_rectangle_fits(size):
    assert block_mask(*size, size[0] * size[1]).shape == size


def test_masks_follow_the_global_seed():
    drawn = []
    for _ in range(2):
        np.random.seed(7)
        count = sample_mask_ratio([(0.3, 0.2)]) * 196
        drawn.append((count, block_mask(14, 14, count), random_mask(14, 14, count)))
    assert drawn[0][0] == drawn[1][0]
    assert (drawn[0][1] == drawn[1][1]).all() and (drawn[0][2] == drawn[1][2]).all()
