# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch

from ibot_mm.functional.principal_components import (
    find_foreground,
    principal_axes,
    split_by_threshold,
    to_colors,
)


def test_axes_equal_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    tokens = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)
    mean, axes, shares = principal_axes(tokens, 3)
    fitted = PCA(3).fit(tokens.double().numpy())
    np.testing.assert_allclose(mean, fitted.mean_, atol=1e-12)
    np.testing.assert_allclose(shares, fitted.explained_variance_ratio_, rtol=1e-9)
    signs = np.sign((axes.T.numpy() * fitted.components_).sum(axis=1))
    np.testing.assert_allclose(axes.T * signs[:, None], fitted.components_, atol=1e-9)
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()


def test_too_few_tokens():
    with pytest.raises(ValueError, match='got 3 patches of 8 channels: show more'):
        principal_axes(torch.randn(3, 8))


def test_threshold_lies_between_two_groups():
    values = torch.cat([torch.linspace(0, 0.2, 30), torch.linspace(0.9, 1, 10)])
    assert 0.2 < split_by_threshold(values) < 0.9


@pytest.mark.parametrize('sign', [1, -1])
def test_foreground_does_not_depend_on_the_sign(sign):
    scores = torch.zeros(5, 6)
    scores[1:4, 2:4] = 1
    (mask,) = find_foreground([sign * scores])
    assert mask.sum() == 6 and mask[2, 3]
    (other,) = find_foreground([sign * scores], invert=True)
    assert (other != mask).all()


def test_one_scale_for_all():
    first, second = to_colors([torch.tensor([[0.0, 1, 2]]), torch.tensor([[4.0, 3, 2]])], cut=0)
    assert first.tolist() == [[0, 0, 0]] and second.tolist() == [[1, 1, 0]]
