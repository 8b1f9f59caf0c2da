# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import pytest
import torch

from ibot_mm.functional.koleo import koleo_loss


def test_distances_are_those_to_the_nearest_on_the_sphere():
    """Angles of 0, 60 and 180 degrees: chords of 1, 1 and sqrt(3)."""
    angles = torch.tensor([0.0, 60.0, 180.0], dtype=torch.float64).deg2rad()
    lengths = torch.tensor([[1.0], [3.0], [0.2]], dtype=torch.float64)
    features = lengths * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert koleo_loss(features).item() == pytest.approx(-math.log(3) / 6, abs=1e-7)


def test_equal_features_push_apart_with_finite_gradients():
    features = torch.ones(3, 4).requires_grad_()
    loss = koleo_loss(features)
    loss.backward()
    assert loss > 10 and features.grad.isfinite().all()


def test_low_precision_is_computed_in_float32():
    torch.manual_seed(0)
    features = torch.randn(6, 8).bfloat16()
    assert torch.equal(koleo_loss(features), koleo_loss(features.float()))


def test_one_image_is_refused():
    with pytest.raises(ValueError, match='two images in a batch, got 1'):
        koleo_loss(torch.randn(1, 4))
