# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch

from ibot_mm.functional import pca_whitening
from ibot_mm.functional.pca_whitening import fit_pca_whitening


def test_second_moments_become_the_identity(monkeypatch):
    monkeypatch.setattr(pca_whitening, 'CHUNK', 30)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    features = features.double() + 1
    whitening = fit_pca_whitening(features)
    torch.testing.assert_close(whitening.mean, features.mean(dim=0))
    turned = features @ whitening.projection.T  # the mean is not subtracted for the components
    torch.testing.assert_close(turned.T @ turned / 200, torch.eye(5, dtype=torch.float64))
    applied = whitening.apply(features)
    torch.testing.assert_close(applied, turned - turned.mean(dim=0))


def test_small_eigenvalues_are_raised():
    features = torch.diag(torch.tensor([1.0, 1e-6])).double()
    projection = fit_pca_whitening(features, floor=1e-4).projection
    assert projection.abs()[0, 0] == pytest.approx(2**0.5)
    assert projection.abs()[1, 1] == pytest.approx((2 / 1e-4) ** 0.5)


def test_no_images():
    with pytest.raises(ValueError, match='at least one image, got none'):
        fit_pca_whitening(torch.empty(0, 4))
