# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch
import torch.nn.functional as F

from ibot_mm.functional import logistic_regression
from ibot_mm.functional.logistic_regression import Objective, fit_logistic_regression


def make(number=300, channels=12, classes=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (number,), generator=generator)
    centers = torch.randn(classes, channels, generator=generator, dtype=dtype)
    noise = torch.randn(number, channels, generator=generator, dtype=dtype)
    return F.normalize(centers[labels] + noise, dim=1), labels


@pytest.mark.parametrize('weight_decay', [1e-4, 0.01, 1.0])
def test_gradient_vanishes_at_the_solution(weight_decay):
    features, labels = make()
    solution = fit_logistic_regression(features, labels, 5, weight_decay, tolerance=1e-12)
    weight = solution.weight.requires_grad_()
    loss = F.cross_entropy(features @ weight, labels) + weight_decay / 2 * weight.square().sum()
    loss.backward()
    assert weight.grad.abs().max() < 1e-12
    assert solution.loss == pytest.approx(loss.item(), rel=1e-14)


def test_objective_is_differentiated_right():
    features, labels = make(number=40)
    objective = Objective(features, labels, 5, 0.1)
    weight = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)

    def loss(weight):
        return F.cross_entropy(features @ weight, labels) + 0.05 * weight.square().sum()

    value, gradient = objective.value_and_gradient(weight.detach())
    assert value == pytest.approx(loss(weight).item())
    torch.testing.assert_close(gradient, torch.autograd.grad(loss(weight), weight)[0])
    direction = torch.randn(12, 5, dtype=torch.float64)
    _, product = torch.autograd.functional.hvp(loss, weight.detach(), direction)
    torch.testing.assert_close(objective.curvature(weight.detach())(direction), product)


def test_chunks_and_start_do_not_change_the_solution(monkeypatch):
    features, labels = make()
    whole = fit_logistic_regression(features, labels, 5, 0.1, tolerance=1e-13)
    monkeypatch.setattr(logistic_regression, 'CHUNK', 37)
    start = fit_logistic_regression(features, labels, 5, 1.0).weight
    parts = fit_logistic_regression(features, labels, 5, 0.1, start, tolerance=1e-13)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16])
def test_low_precision_stops_where_rounding_does_not_let_it_on(dtype):
    features, labels = make()
    exact = fit_logistic_regression(features.to(dtype).double(), labels, 5, 0.01, tolerance=1e-12)
    solution = fit_logistic_regression(features.to(dtype), labels, 5, 0.01, tolerance=0.0)
    assert solution.weight.dtype == torch.float32
    assert solution.num_passes < 500
    torch.testing.assert_close(solution.weight.double(), exact.weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(weight_decay=0.0), 'weight_decay must be above 0, got 0.0'),
        (dict(num_classes=3), r'labels must be in \[0, 3\), got 0 to 4'),
        (dict(labels=torch.zeros(2)), 'one label for each'),
    ],
)
def test_bad_input_is_refused(changes, message):
    features, labels = make(number=40)
    given = dict(features=features, labels=labels, num_classes=5, weight_decay=0.1) | changes
    with pytest.raises(ValueError, match=message):
        fit_logistic_regression(**given)
