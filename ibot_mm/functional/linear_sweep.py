# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Linear classifiers of many learning rates, trained at once on frozen features."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# The published sweep: {1 ... 9} x {1e-4, 1e-3, 1e-2, 1e-1, 1}, for 256 images a step.
LEARNING_RATES = tuple(
    round(digit * 10.0**power, 4) for power in range(-4, 1) for digit in range(1, 10)
)


def sweep_scores(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute the scores of all layers by one product.

    Args:
        features: Shape (B, D).
        weight: Shape (H, C, D).
        bias: Shape (H, C).

    Returns:
        Shape (B, H, C).
    """
    return F.linear(features, weight.flatten(0, 1), bias.flatten()).unflatten(1, bias.shape)


def sweep_cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy of each image and layer, shape (B, H).

    Args:
        scores: Shape (B, H, C).
        labels: Class ids (B,).
    """
    targets = labels[:, None].expand(scores.shape[:2])
    loss = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), reduction='none')
    return loss.unflatten(0, scores.shape[:2])


class LinearSweep:
    """Linear layers by SGD with momentum, one for each learning rate.

    All of them are one matrix: scores and gradients are one product each. Gradients are computed
    here, whether or not the caller records any, and reach nothing else. No weight decay; weights
    start from a normal distribution of deviation 0.01 that all have in common, biases from 0
    (``eval_linear_multi``).

    Args:
        weight: Start of each layer, (C, D).
        learning_rates: Of the H layers, as they are used.
        momentum: Defaults to 0.9.
    """

    def __init__(
        self, weight: Tensor, learning_rates: Sequence[float], momentum: float = 0.9
    ) -> None:
        number = len(learning_rates)
        self.num_classes = len(weight)
        self.weight = weight.repeat(number, 1)  # (H * C, D)
        self.bias = weight.new_zeros(len(self.weight))
        self.learning_rates = weight.new_tensor(learning_rates).repeat_interleave(len(weight))
        self.momentum = momentum
        self._buffers = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def scores(self, features: Tensor) -> Tensor:
        """Compute the scores (B, H, C) of features (B, D)."""
        shape = -1, self.num_classes
        return sweep_scores(
            features, self.weight.unflatten(0, shape), self.bias.unflatten(0, shape)
        )

    def step(
        self,
        features: Tensor,
        labels: Tensor,
        factor: float = 1.0,
        average: Callable[[Tensor], None] | None = None,
    ) -> Tensor:
        """Train by one batch.

        Args:
            features: Shape (B, D).
            labels: Class ids (B,).
            factor: Of all learning rates, from a schedule. Defaults to 1.
            average: Averages a gradient over processes, in place. Defaults to None, one process.

        Returns:
            Mean cross-entropy of each layer before the step, (H,).
        """
        parameters = self.weight, self.bias
        with torch.enable_grad():
            for parameter in parameters:
                parameter.requires_grad_()
            loss = sweep_cross_entropy(self.scores(features.detach()), labels).mean(dim=0)
            gradients = torch.autograd.grad(loss.sum(), parameters)
        rates = factor * self.learning_rates
        for parameter, buffer, gradient, rate in zip(
            parameters, self._buffers, gradients, (rates[:, None], rates)
        ):
            parameter.requires_grad_(False)
            if average is not None:
                average(gradient)
            buffer.mul_(self.momentum).add_(gradient)
            parameter.addcmul_(buffer, rate, value=-1)
        return loss.detach()

    def state_dict(self) -> dict[str, Tensor]:
        """Return weights and momentum, the tensors themselves."""
        names = 'weight', 'bias', 'weight_buffer', 'bias_buffer'
        return dict(zip(names, (self.weight, self.bias, *self._buffers)))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over weights and momentum.

        Raises:
            ValueError: If they are of other shapes.
        """
        for name, tensor in self.state_dict().items():
            if state[name].shape != tensor.shape:
                raise ValueError(
                    f'{name} of a linear sweep has shape {tuple(tensor.shape)}, and the state '
                    f'{tuple(state[name].shape)}'
                )
            tensor.copy_(state[name])
