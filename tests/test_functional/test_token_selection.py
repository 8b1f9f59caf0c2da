# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.token_selection import masked_patches, select_tokens, token_rows


def test_masked_patches_are_numbered_view_by_view():
    masks = torch.zeros(2, 2, 2, 2, dtype=torch.bool)  # (B, G, H/p, W/p)
    masks[0, 0, 0, 1] = masks[0, 1, 1, 0] = masks[1, 0, 1, 1] = True
    assert masked_patches(masks).tolist() == [1, 7, 10]


def test_selected_tokens_are_each_cls_then_the_masked_patches():
    torch.manual_seed(0)
    masks = torch.rand(3, 2, 2, 3) < 0.5
    tokens = torch.randn(6, 1 + 6, 4)
    flat = masks.transpose(0, 1).flatten(0, 1).flatten(1)
    expected = torch.cat([tokens[:, 0], tokens[:, 1:][flat]])
    assert torch.equal(select_tokens(tokens, masked_patches(masks)), expected)


@pytest.mark.parametrize('num_extra', [1, 3])
def test_rows_count_tokens_ahead_of_the_patches(num_extra):
    tokens = torch.arange(2 * (num_extra + 4)).view(2, num_extra + 4)
    patches = torch.tensor([0, 3, 5])
    expected = [*tokens[:, 0], *tokens[:, num_extra:].flatten()[patches]]
    assert token_rows(patches, 2, 4, num_extra).tolist() == expected
