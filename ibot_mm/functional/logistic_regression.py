# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Multinomial logistic regression without intercept, solved to its optimum.

Newton's method with conjugate gradients: the objective is smooth and strongly convex, so that a
few Newton steps of some ten products each reach its optimum as exactly as the precision allows.
Products walk over the samples in chunks: features may be a memory map, or lie on another device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 16384  # samples whose scores (CHUNK, C) exist at a time
SUFFICIENT = 1e-4  # share of the expected decrease that a step must bring
SMALLEST_STEP = 2**-20


@dataclass(frozen=True)
class LogisticRegression:
    """A solution.

    Args:
        weight: Shape (D, C).
        loss: Objective at it.
        num_passes: Passes over the samples that it took.
        gradient_ratio: Norm of the gradient there over that at the start of all zeros.
    """

    weight: Tensor
    loss: float
    num_passes: int
    gradient_ratio: float


class Objective:
    """Mean multinomial logistic loss plus ``weight_decay / 2 * |W|^2``.

    Args:
        features: (N, D), any floating point type; half precision is computed in float32.
        labels: Class ids (N,).
        num_classes: C.
        weight_decay: λ, above 0.
        device: Where to compute. Defaults to None, where the features are.
        normalize: Whether features are L2-normalized here, chunk by chunk. Defaults to False.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        num_classes: int,
        weight_decay: float,
        device: torch.device | str | None = None,
        normalize: bool = False,
    ) -> None:
        self.features = features
        self.labels = labels
        self.num_classes = num_classes
        self.weight_decay = weight_decay
        self.device = torch.device(device or features.device)
        self.dtype = torch.promote_types(features.dtype, torch.float32)
        self.normalize = normalize
        self.num_passes = 0

    def zeros(self) -> Tensor:
        """Return weights of zero, (D, C)."""
        shape = self.features.shape[1], self.num_classes
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield features and labels of the samples, part by part."""
        self.num_passes += 1
        for start in range(0, len(self.features), CHUNK):
            features = self.features[start : start + CHUNK].to(self.device, self.dtype)
            features = F.normalize(features, dim=1) if self.normalize else features
            yield features, self.labels[start : start + CHUNK].to(self.device, torch.long)

    def value_and_gradient(self, weight: Tensor) -> tuple[float, Tensor]:
        """Compute the objective and its gradient (D, C)."""
        total = torch.zeros((), dtype=torch.float64)
        gradient = torch.zeros_like(weight)
        for features, labels in self.chunks():
            log_probabilities = (features @ weight).log_softmax(dim=1)
            chosen = log_probabilities.gather(1, labels[:, None])
            total -= chosen.sum(dtype=torch.float64).cpu()
            residual = log_probabilities.exp_()
            residual.scatter_add_(1, labels[:, None], -torch.ones_like(chosen))
            gradient += features.T @ residual
        number = len(self.features)
        norm = float(weight.double().square().sum())
        value = float(total) / number + self.weight_decay / 2 * norm
        return value, gradient / number + self.weight_decay * weight

    def curvature(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the Hessian at ``weight`` as a function of a direction (D, C)."""

        def product(direction: Tensor) -> Tensor:
            result = torch.zeros_like(direction)
            for features, _ in self.chunks():
                probabilities = (features @ weight).softmax(dim=1)
                change = probabilities * (features @ direction)
                change -= probabilities * change.sum(dim=1, keepdim=True)
                result += features.T @ change
            return result / len(self.features) + self.weight_decay * direction

        return product


def fit_logistic_regression(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    weight_decay: float,
    start: Tensor | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 50,
    device: torch.device | str | None = None,
    normalize: bool = False,
) -> LogisticRegression:
    """Find the optimum of iBOT's logistic regression (``eval_logistic_regression``).

    Args:
        features: Of shape (N, D); see :class:`Objective`.
        labels: Class ids (N,).
        num_classes: C.
        weight_decay: λ of ``λ/2 |W|²``, above 0.
        start: Weights (D, C) to begin with, such as those of a larger λ. Defaults to None, zeros.
        tolerance: Norm of the gradient to stop at, over its norm at zero. It also stops when
            rounding keeps a step from bringing anything. Defaults to 1e-6.
        max_steps: Most Newton steps. Defaults to 50.
        device: Where to compute. Defaults to None, where the features are.
        normalize: Whether features are L2-normalized first, as the protocol has it.
            Defaults to False.

    Raises:
        ValueError: If λ is not positive, labels are out of range or shapes do not fit.
    """
    if weight_decay <= 0:
        raise ValueError(f'weight_decay must be above 0, got {weight_decay}')
    if features.ndim != 2 or labels.shape != features.shape[:1] or len(labels) == 0:
        raise ValueError(
            'expected features (N, D) and one label for each, got '
            f'{tuple(features.shape)} and {tuple(labels.shape)}'
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f'labels must be in [0, {num_classes}), got {int(labels.min())} to {int(labels.max())}'
        )
    objective = Objective(features, labels, num_classes, weight_decay, device, normalize)
    weight = objective.zeros()
    value, gradient = objective.value_and_gradient(weight)
    scale = float(gradient.norm()) or 1.0
    if start is not None:
        weight = start.to(weight)
        value, gradient = objective.value_and_gradient(weight)
    for _ in range(max_steps):
        ratio = float(gradient.norm()) / scale
        if ratio <= tolerance:
            break
        direction = _conjugate_gradient(
            objective.curvature(weight), -gradient, min(0.1, ratio**0.5)
        )
        found = _line_search(objective, weight, value, gradient, direction)
        if found is None:
            break
        weight, value, gradient = found
    return LogisticRegression(weight, value, objective.num_passes, float(gradient.norm()) / scale)


def _conjugate_gradient(
    product: Callable[[Tensor], Tensor], target: Tensor, tolerance: float, max_steps: int = 250
) -> Tensor:
    """Solve ``product(x) = target`` to a relative residual."""
    solution = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    squared = residual.square().sum()
    goal = squared * tolerance**2
    for _ in range(max_steps):
        image = product(direction)
        step = squared / (direction * image).sum()
        solution += step * direction
        residual -= step * image
        previous, squared = squared, residual.square().sum()
        if squared <= goal:
            break
        direction = residual + squared / previous * direction
    return solution


def _line_search(
    objective: Objective, weight: Tensor, value: float, gradient: Tensor, direction: Tensor
) -> tuple[Tensor, float, Tensor] | None:
    """Halve the step until it brings a decrease of the objective, or of its gradient.

    Near the optimum the objective no longer changes within its precision; the gradient does.
    """
    slope = float((gradient * direction).sum())
    norm = float(gradient.norm())
    step = 1.0
    while step >= SMALLEST_STEP:
        new_weight = weight + step * direction
        new_value, new_gradient = objective.value_and_gradient(new_weight)
        if new_value <= value + SUFFICIENT * step * slope:
            return new_weight, new_value, new_gradient
        rounding = torch.finfo(weight.dtype).eps * abs(value)
        if step == 1 and abs(slope) <= 64 * rounding:
            better = float(new_gradient.norm()) < norm
            return (new_weight, new_value, new_gradient) if better else None
        step /= 2
    return None
