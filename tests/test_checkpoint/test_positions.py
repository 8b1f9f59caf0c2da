# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.checkpoint import CheckpointError
from ibot_mm.checkpoint.positions import (
    fit_position_embedding,
    resize_patches,
    resize_relative_table,
    source_layout,
)

CLS, BOTH = [('cls_token',)], [('cls_token', 'register_tokens'), ()]


@pytest.mark.parametrize(
    'length, numbers, target, layout',
    [
        (197, [1], (14, 14), (1, (14, 14))),
        (197, [1], (32, 32), (1, (14, 14))),
        (196, [1, 0], (32, 32), (0, (14, 14))),  # no entry of [CLS]
        (198, [2, 0], (14, 14), (2, (14, 14))),  # distilled
        (1 + 8 * 2, [1], (8, 2), (1, (8, 2))),  # as many as 4 x 4: the target's
        (1 + 6 * 8, [1, 0], (6, 8), (1, (6, 8))),  # not 7 x 7 without [CLS]
        (49, [5, 0], (6, 8), (0, (7, 7))),  # with registers, which cannot be 1 + 48
    ],
)
def test_layout(length, numbers, target, layout):
    assert source_layout(length, numbers, target) == layout


def test_layout_that_cannot_be_told():
    with pytest.raises(CheckpointError, match='13 entries.*4 x 4 patches: set img_size'):
        source_layout(13, [1], (4, 4))


def tokens(number):
    return torch.randn(1, number, 4)


@pytest.mark.parametrize('with_registers', [True, False])
@pytest.mark.parametrize('of_target', [0, 1, 3])
@pytest.mark.parametrize('of_source', [0, 1, 3])
def test_entries_of_tokens_move_without_effect(of_source, of_target, with_registers):
    """Each token plus its entry stays the same, wherever the sum is kept."""
    names = {'cls_token': 1} | ({'register_tokens': 2} if with_registers else {})
    of_source, of_target = (min(n, sum(names.values())) for n in (of_source, of_target))
    state = {name: tokens(n) for name, n in names.items()}
    target = {name: tokens(n) for name, n in names.items()}
    state['pos_embed'], target['pos_embed'] = tokens(of_source + 16), tokens(of_target + 16)
    allowed = [list(names)] if of_source == 3 else [('cls_token',)] if of_source else [()]

    def added_up(state, number):
        before = torch.cat([state[name] for name in names], dim=1)
        before[:, :number] += state['pos_embed'][:, :number]
        return torch.cat([before, state['pos_embed'][:, number:]], dim=1)

    expected = added_up(state, of_source)
    assert fit_position_embedding(state, target, allowed, (4, 4)) is None
    assert state['pos_embed'].shape == target['pos_embed'].shape
    torch.testing.assert_close(added_up(state, of_target), expected)


def test_entries_of_tokens_that_the_target_lacks_are_dropped():
    state = {'cls_token': tokens(1), 'register_tokens': tokens(2), 'pos_embed': tokens(3 + 16)}
    target = {'pos_embed': tokens(16)}
    expected = state['pos_embed'][:, 3:]
    fit_position_embedding(state, target, BOTH, (4, 4))
    assert torch.equal(state['pos_embed'], expected)


def test_equal_grids_are_bitwise_and_others_bicubic():
    state, target = {'cls_token': tokens(1), 'pos_embed': tokens(17)}, {'cls_token': tokens(1)}
    before = state['pos_embed']
    fit_position_embedding(state, target | {'pos_embed': tokens(17)}, CLS, (4, 4))
    assert torch.equal(state['pos_embed'], before)
    grids = fit_position_embedding(state, target | {'pos_embed': tokens(1 + 42)}, CLS, (6, 7))
    assert grids == ((4, 4), (6, 7)) and state['pos_embed'].shape == (1, 43, 4)


def test_resize_is_that_of_timm_without_antialiasing():
    from timm.layers import resample_abs_pos_embed

    patches = tokens(16)
    for grid in ((7, 5), (2, 3)):
        expected = resample_abs_pos_embed(
            patches, grid, num_prefix_tokens=0, antialias=False, interpolation='bicubic'
        )
        torch.testing.assert_close(resize_patches(patches, (4, 4), grid), expected)


def test_table_of_no_square_grid():
    with pytest.raises(CheckpointError, match='53 entries'):
        resize_relative_table(torch.ones(53, 2), (3, 3))
