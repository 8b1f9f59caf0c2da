# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patches that are taken away, and patches in another order."""

import numpy as np
import pytest
import torch

from ibot_mm.functional.attention_mass import most_attended
from ibot_mm.functional.occlusion import (
    PUBLISHED_GRIDS,
    drop_patches,
    first_patches,
    sample_orders,
    shuffle_patches,
)

IMAGES = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(0)) + 1
GRID = (2, 3)


def test_images_have_samples_of_their_own():
    orders = sample_orders(6, [0, 1, 7], seed=3)
    assert [sorted(order.tolist()) for order in orders] == [list(range(6))] * 3
    assert torch.equal(orders[2], sample_orders(6, [7], seed=3)[0])  # whatever the batch
    many = sample_orders(6, range(400), seed=3)
    assert len({tuple(order.tolist()) for order in many}) > 200
    counts = torch.bincount(many[:, 0], minlength=6)  # uniform: 66.7, deviation 7.5
    assert counts.min() > 35 and counts.max() < 100
    assert not torch.equal(many, sample_orders(6, range(400), seed=4))


def test_published_samples_are_those_of_the_batch():
    orders = sample_orders(196, [5, 9], seed=1, as_published=True)
    np.random.seed(1)
    expected = torch.from_numpy(np.random.choice(196, 196, replace=False))
    assert torch.equal(orders, expected.expand(2, 196))


def test_nothing_dropped_changes_nothing_and_all_leaves_nothing():
    orders = sample_orders(6, range(3))
    assert torch.equal(drop_patches(IMAGES, first_patches(orders, 0), GRID), IMAGES)
    assert not drop_patches(IMAGES, first_patches(orders, 6), GRID).any()


def test_the_right_patches_are_dropped():
    dropped = torch.zeros(3, 6, dtype=torch.bool)
    dropped[1, 4] = True  # second row, second column
    changed = drop_patches(IMAGES, dropped, GRID)
    assert not changed[1, :, 4:, 4:8].any()
    assert (changed == 0).sum() == 3 * 4 * 4
    moved = drop_patches(IMAGES, dropped, GRID, offset=2)
    assert not moved[1, :, 6:, 6:10].any() and (moved == 0).sum() == 3 * 2 * 4


@pytest.mark.parametrize('number', range(7))
def test_so_many_patches_are_dropped_and_more_include_fewer(number):
    orders = sample_orders(6, range(3))
    changed = drop_patches(IMAGES, first_patches(orders, number), GRID)
    assert (changed == 0).sum() == 3 * 3 * number * 16
    more = drop_patches(IMAGES, first_patches(orders, min(number + 1, 6)), GRID)
    assert (more[changed == 0] == 0).all()


def test_shuffled_patches_are_the_same_elsewhere():
    orders = sample_orders(6, range(3))
    shuffled = shuffle_patches(IMAGES, GRID, orders)
    for place in range(6):
        (row, column), (old_row, old_column) = divmod(place, 3), divmod(int(orders[2, place]), 3)
        assert torch.equal(
            shuffled[2, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4],
            IMAGES[2, :, 4 * old_row : 4 * old_row + 4, 4 * old_column : 4 * old_column + 4],
        )
    assert torch.equal(shuffle_patches(shuffled, GRID, orders.argsort(dim=1)), IMAGES)
    assert torch.equal(shuffle_patches(IMAGES, (1, 1), sample_orders(1, range(3))), IMAGES)


@pytest.mark.parametrize('grid', PUBLISHED_GRIDS)
def test_published_grids_divide_the_published_view(grid):
    images = torch.arange(224.0 * 224).view(1, 1, 224, 224)
    shuffled = shuffle_patches(images, grid, sample_orders(grid[0] * grid[1], [0]))
    assert not torch.equal(shuffled, images)
    assert torch.equal(shuffled.flatten().sort().values, images.flatten())


@pytest.mark.parametrize('grid', [(3, 3), (2, 5), (0, 1)])
def test_grids_that_do_not_divide_the_image_are_refused(grid):
    count = grid[0] * grid[1]
    with pytest.raises(ValueError, match=r'8 x 12 pixels cannot be cut into'):
        shuffle_patches(IMAGES, grid, torch.zeros(3, count).long())
    with pytest.raises(ValueError, match=r'8 x 12 pixels cannot be cut into'):
        drop_patches(IMAGES, torch.zeros(3, count).bool(), grid)


@pytest.mark.parametrize(
    'share, expected', [(0.3, [3]), (0.5, [1, 3]), (0.9, [0, 1, 3]), (1.0, [0, 1, 2, 3])]
)
def test_fewest_patches_that_hold_a_share(share, expected):
    attention = torch.tensor([[0.2, 0.3, 0.05, 0.45, 0.0]]).double() / 3
    assert most_attended(attention, share)[0].nonzero()[:, 0].tolist() == expected


@pytest.mark.parametrize('share', [0, 1.1, -0.5])
def test_shares_out_of_range_are_refused(share):
    with pytest.raises(ValueError, match=r'must be in \(0, 1\]'):
        most_attended(torch.ones(1, 4), share)
