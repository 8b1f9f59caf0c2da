# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.position_embedding import resize_by_matrices, resize_position_embedding


@pytest.mark.parametrize('grid', [(6, 6), (14, 10), (20, 31)])
def test_shape_and_class_token(grid):
    embedding = torch.randn(1, 1 + 14 * 14, 8)
    resized = resize_position_embedding(embedding, (14, 14), grid)
    assert resized.shape == (1, 1 + grid[0] * grid[1], 8)
    assert torch.equal(resized[:, 0], embedding[:, 0])


def test_same_grid_is_the_parameter_itself():
    embedding = torch.randn(1, 1 + 12, 8)
    assert resize_position_embedding(embedding, (3, 4), (3, 4)) is embedding


def test_published_offset_of_a_tenth_shifts_the_samples():
    # A ramp along the width: bicubic interpolation of a line is the line at the sampling points,
    # which lie at (i + 0.5) * 14 / 6.1 - 0.5 and not at (i + 0.5) * 14 / 6 - 0.5.
    ramp = torch.arange(14.0).expand(14, 14).reshape(1, 196, 1)
    embedding = torch.cat([torch.zeros(1, 1, 1), ramp], dim=1)
    resized = resize_position_embedding(embedding, (14, 14), (6, 6))[0, 1:, 0].unflatten(0, (6, 6))
    expected = (torch.arange(6.0) + 0.5) * 14 / 6.1 - 0.5
    # torch's kernel bends a line by up to 0.05; without the tenth the last would be 0.17 off.
    torch.testing.assert_close(resized[2, 1:5], expected[1:5], atol=0.06, rtol=0)


@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-13), (torch.float32, 2e-5)])
@pytest.mark.parametrize(
    'source, target',
    [
        ((14, 14), (6, 6)),
        ((14, 14), (14, 14)),
        ((14, 14), (14, 15)),
        ((14, 10), (37, 3)),
        ((4, 4), (1, 1)),
        ((2, 3), (40, 50)),
    ],
)
def test_matrices_are_the_same_function(source, target, dtype, tolerance):
    torch.manual_seed(0)
    embedding = torch.randn(1, 1 + source[0] * source[1], 8, dtype=dtype)
    maps = embedding[:, 1:].unflatten(1, source).permute(0, 3, 1, 2)
    resized = resize_by_matrices(maps, target)
    expected = resize_position_embedding(embedding, source, target)[:, 1:].transpose(1, 2)
    torch.testing.assert_close(resized.flatten(2), expected, atol=tolerance, rtol=0)
    if source == target:
        assert torch.equal(resized, maps)
