# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional.whitening import whitening_embedding


def patches(num=4000, size=12):
    """Like pixels of images: neighbors are nearly equal."""
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(num, size, generator=generator) * 0.1
    return steps.cumsum(dim=1) + 2 * torch.randn(num, 1, generator=generator) + 0.5


@pytest.mark.parametrize('num_channels', [12, 30])
def test_all_directions_of_patches_count_alike(num_channels):
    generator = torch.Generator().manual_seed(1)
    weight, bias = whitening_embedding(patches(), num_channels, 1e-9, generator)
    outputs = patches() @ weight.T + bias
    assert outputs.mean(dim=0).abs().max() < 1e-3
    assert outputs.square().mean() == pytest.approx(1, rel=1e-3)
    variances = torch.linalg.eigvalsh(torch.cov(outputs.T))[-12:]
    torch.testing.assert_close(variances, torch.full((12,), num_channels / 12), rtol=1e-2, atol=0)


def test_the_largest_components_are_kept():
    weight, _ = whitening_embedding(patches(), 3)
    directions = torch.linalg.eigh(torch.cov(patches().T))[1][:, -3:]
    inside = weight @ directions
    torch.testing.assert_close(inside.norm(), weight.norm(), rtol=1e-4, atol=0)


def test_noise_below_eps_stays_small():
    data = torch.cat([patches(), 1e-4 * torch.randn(4000, 1)], dim=1)
    weight, bias = whitening_embedding(data, 13, eps=0.01)
    assert (weight[:, -1] * 1e-4).abs().max() < 0.01


def test_what_cannot_be_whitened():
    with pytest.raises(ValueError, match='all are the same'):
        whitening_embedding(torch.ones(5, 3), 3)
    with pytest.raises(ValueError, match='two patches or more'):
        whitening_embedding(torch.ones(1, 3), 3)
