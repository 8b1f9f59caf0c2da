# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every use of torch's private functions, each with the formula that it computes.

They do for many tensors by one kernel what the formula does one by one. A new torch that changes
them fails in ``tests/test_private_api.py``.
"""

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .functional.shards import is_sharded, local_parts, sum_over_shards


def norms_of(tensors: list[Tensor]) -> Tensor:
    """Compute the Euclidean norm of each tensor.

    Of sharded tensors it is that of the whole, and all processes must call this.

    Args:
        tensors: Of any shapes, on one device, all of them sharded or none.

    Returns:
        Norms (number of tensors,).
    """
    norms = torch.stack(torch._foreach_norm(local_parts(tensors)))
    if not is_sharded(tensors[0]):
        return norms
    return sum_over_shards(norms.square(), tensors[0]).sqrt()


def scale_(tensors: list[Tensor], factors: Tensor) -> None:
    """Multiply each tensor in place by its factor.

    Args:
        tensors: Of any shapes, on one device.
        factors: (number of tensors,).
    """
    torch._foreach_mul_(local_parts(tensors), list(factors.unbind()))


def lerp_(tensors: list[Tensor], others: list[Tensor], weight: float | Tensor) -> None:
    """Move each tensor in place towards another: ``tensor + weight * (other - tensor)``.

    Args:
        tensors: Of any shapes, on one device.
        others: One of the same shape for each; where processes share them, in the same parts.
        weight: For all. A tensor () on the same device is not waited for.
    """
    tensors, others = local_parts(tensors), local_parts(others)
    if isinstance(weight, Tensor):  # it must then be given for each
        torch._foreach_lerp_(tensors, others, [weight] * len(tensors))
    else:
        torch._foreach_lerp_(tensors, others, weight)


def takes_found_inf(optimizer: Optimizer) -> bool:
    """Tell whether ``step`` changes nothing where ``optimizer.found_inf`` is 1, on the device.

    So do fused optimizers, for the sake of gradient scalers.
    """
    return bool(getattr(optimizer, '_step_supports_amp_scaling', False))


def undo_compile(module: nn.Module) -> None:
    """Take back ``module.compile()``: it runs as it is written."""
    module._compiled_call_impl = None
