# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3, apply_rot_embed_cat

from ibot_mm.functional.rotary_embedding import rotary_angles, rotate

GRIDS = [(4, 4), (3, 5), (1, 2)]


@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_angles(grid):
    channels, base = 8, 100.0
    expected = []
    for row in range(grid[0]):
        for column in range(grid[1]):
            center = ((row + 0.5) / grid[0] * 2 - 1, (column + 0.5) / grid[1] * 2 - 1)
            expected.append(
                [2 * math.pi * place / base ** (k / 2) for place in center for k in range(2)]
            )
    torch.testing.assert_close(rotary_angles(grid, channels, base), torch.tensor(expected))


@pytest.mark.parametrize('grid', GRIDS, ids=str)
def test_rotation_is_timms(grid):
    tokens = torch.randn(2, 3, 1 + grid[0] * grid[1], 16)
    patches = apply_rot_embed_cat(
        tokens[:, :, 1:], RotaryEmbeddingDinoV3(16).get_embed(list(grid)), half=True
    )
    rotated = rotate(tokens, rotary_angles(grid, 16))
    torch.testing.assert_close(rotated[:, :, 1:], patches)
    assert torch.equal(rotated[:, :, 0], tokens[:, :, 0])


def test_type_is_kept():
    tokens = torch.randn(1, 2, 4, 8, dtype=torch.bfloat16)
    angles = rotary_angles((2, 2), 8)
    assert rotate(tokens, angles).dtype == torch.bfloat16
    torch.testing.assert_close(
        rotate(tokens, angles).float(), rotate(tokens.float(), angles), atol=0.02, rtol=0.01
    )


def test_channels_that_do_not_divide():
    with pytest.raises(ValueError, match='multiple of 4 channels, got 6'):
        rotary_angles((2, 2), 6)
