# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every use of torch's private functions, each with the formula that it computes.

They do for many tensors by one kernel what the formula does one by one. A new torch that changes
them fails in ``tests/test_private_api.py``.
"""

import torch
from torch import Tensor
from torch.optim import Optimizer


def norms_of(tensors: list[Tensor]) -> Tensor:
    """Compute the Euclidean norm of each tensor.

    Args:
        tensors: Of any shapes, on one device.

    Returns:
        Norms (number of tensors,).
    """
    return torch.stack(torch._foreach_norm(tensors))


def scale_(tensors: list[Tensor], factors: Tensor) -> None:
    """Multiply each tensor in place by its factor.

    Args:
        tensors: Of any shapes, on one device.
        factors: (number of tensors,).
    """
    torch._foreach_mul_(tensors, list(factors.unbind()))


def lerp_(tensors: list[Tensor], others: list[Tensor], weight: float | Tensor) -> None:
    """Move each tensor in place towards another: ``tensor + weight * (other - tensor)``.

    Args:
        tensors: Of any shapes, on one device.
        others: One of the same shape for each.
        weight: For all. A tensor () on the same device is not waited for.
    """
    if isinstance(weight, Tensor):  # it must then be given for each
        torch._foreach_lerp_(tensors, others, [weight] * len(tensors))
    else:
        torch._foreach_lerp_(tensors, others, weight)


def takes_found_inf(optimizer: Optimizer) -> bool:
    """Tell whether ``step`` changes nothing where ``optimizer.found_inf`` is 1, on the device.

    So do fused optimizers, for the sake of gradient scalers.
    """
    return bool(getattr(optimizer, '_step_supports_amp_scaling', False))
