# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.attention_mass import most_attended, strongest_head


@pytest.mark.parametrize(
    'mass, kept',
    [
        (0.3, [False, False, False, True]),
        (0.39, [False, False, False, True]),
        (0.41, [False, True, False, True]),  # the patch that crosses the line is kept
        (0.95, [True, True, True, True]),
        (1.0, [True, True, True, True]),
    ],
)
def test_the_most_attended_patches_hold_the_mass(mass, kept):
    attention = torch.tensor([0.1, 0.3, 0.2, 0.4], dtype=torch.float64)
    assert most_attended(attention, mass).tolist() == kept
    assert most_attended(attention * 0.7, mass).tolist() == kept  # a sum of 1 is not needed


def test_each_row_by_itself():
    attention = torch.rand(2, 3, 20, generator=torch.Generator().manual_seed(0)).double()
    kept = most_attended(attention, 0.6)
    shares = (attention * kept).sum(-1) / attention.sum(-1)
    assert (shares >= 0.6).all()
    smallest = attention.masked_fill(~kept, 9).amin(-1) / attention.sum(-1)
    assert (shares - smallest < 0.6).all()  # the smallest such set


@pytest.mark.parametrize('mass', [0.0, -0.1, 1.1])
def test_mass_out_of_range(mass):
    with pytest.raises(ValueError, match=r'mass must be in \(0, 1\]'):
        most_attended(torch.rand(4), mass)


def test_the_strongest_head_of_those_that_keep_a_patch():
    attention = torch.tensor([[0.6, 0.3, 0.1, 0.0], [0.5, 0.08, 0.32, 0.1]], dtype=torch.float64)
    assert strongest_head(attention, 0.8).tolist() == [0, 0, 1, -1]
    assert strongest_head(attention, 0.45).tolist() == [0, -1, -1, -1]
