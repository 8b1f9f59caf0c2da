# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import torch

from ibot_mm.functional.token_layout import TokenLayout


def test_what_is_packed_is_split():
    batches = [torch.randn(2, 3, 4), torch.randn(0, 5, 4), torch.randn(1, 2, 4)]
    tokens, layout = TokenLayout.pack(batches)
    assert tokens.shape == (8, 4) and layout.num_images == 3
    split = layout.split(tokens)
    assert all(torch.equal(*pair) for pair in zip(split, batches))
    assert split[0].data_ptr() == tokens.data_ptr()


def test_values_of_images_go_to_their_tokens():
    layout = TokenLayout(((2, 3), (1, 2)))
    assert layout.repeat(torch.tensor([7, 8, 9])).tolist() == [7, 7, 7, 8, 8, 8, 9, 9]


def test_tokens_of_some_images():
    layout = TokenLayout(((2, 3), (2, 2), (1, 1)))
    wanted = torch.tensor([False, True, True, False, False])
    places, selected = layout.select(wanted, torch.device('cpu'))
    assert places.tolist() == [3, 4, 5, 6, 7]
    assert selected == TokenLayout(((1, 3), (1, 2), (0, 1)))


def test_to_select_waits_for_no_device():
    """On one without values."""
    places, _ = TokenLayout(((2, 3),)).select(torch.tensor([True, False]), torch.device('meta'))
    assert places.is_meta and places.shape == (3,)
