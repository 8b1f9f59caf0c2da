# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ibot_mm.functional.label_propagation import (
    LabelPropagation,
    enlarge_labels,
    labels_on_grid,
    propagate_labels,
)


def plain(target, sources, labels, radius, topk, temperature):
    """All similarities of all patches at once, as the definition says."""
    height, width, _ = target.shape
    affinity = torch.exp(target.flatten(0, 1) @ sources.flatten(0, 2).T / temperature)
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width))
    far = (places[:, None] - places).abs().amax(dim=-1) > (radius or 1000)
    affinity[far.repeat(1, len(sources))] = 0
    affinity[affinity < affinity.topk(topk).values[:, -1:]] = 0
    weights = affinity / affinity.sum(dim=1, keepdim=True)
    predicted = weights @ labels.permute(0, 2, 3, 1).flatten(0, 2)
    return predicted.T.unflatten(1, (height, width))


@pytest.mark.parametrize('grid', [(5, 7), (19, 10)])
@pytest.mark.parametrize('radius', [0, 1, 3])
@pytest.mark.parametrize('topk', [1, 4])
def test_windows_and_tiles_change_nothing(grid, radius, topk):
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(4, *grid, 6, generator=generator, dtype=torch.float64)
    target, *sources = F.normalize(tokens, dim=-1)
    labels = torch.rand(3, 2, *grid, generator=generator, dtype=torch.float64)
    given = target, torch.stack(sources), labels, radius, topk, 0.1
    torch.testing.assert_close(propagate_labels(*given), plain(*given), rtol=1e-12, atol=1e-12)


def test_ties_with_the_last_stay():
    """Three equal frames: each patch finds itself in all of them, though only one may count."""
    tokens = F.normalize(torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    labels = torch.stack([torch.full((1, 4, 4), value) for value in (0.0, 3.0, 6.0)])
    predicted = propagate_labels(tokens, tokens.expand(3, 4, 4, 6), labels, 2, 1, 0.1)
    torch.testing.assert_close(predicted, torch.full((1, 4, 4), 3.0))


def test_the_first_frame_and_the_last_ones_are_sources():
    """Labels of a video that stands still stay; those of the frames between are forgotten."""
    tokens = torch.eye(9).reshape(3, 3, 9)
    labels = F.one_hot(torch.arange(9).view(3, 3) % 2).permute(2, 0, 1).float()
    video = LabelPropagation(tokens, labels, num_last_frames=2, radius=1, topk=1)
    for _ in range(4):
        torch.testing.assert_close(video.step(tokens), labels)
    assert len(video._last) == 2


def test_labels_lost_on_the_grid_have_no_channel():
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 1
    mask[7, 7] = 2
    labels = labels_on_grid(mask, (2, 2))
    assert labels.tolist() == [[[0, 0], [1, 1]], [[1, 1], [0, 0]]]


def test_enlarged_channels_are_spread_by_themselves():
    soft = torch.zeros(2, 2, 2)
    soft[0] = torch.tensor([[1.0, 1.0], [0.9, 0.9]])
    soft[1] = torch.tensor([[0.0, 0.0], [0.1, 0.1]])  # the weaker one wins where it is largest
    mask = enlarge_labels(soft, (8, 8), (8, 6))
    assert mask.shape == (8, 6)
    assert (mask[:2] == 0).all() and (mask[-2:] == 1).all()
