# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tensors that processes share, each holding a part (torch's ``DTensor``).

Everything here takes ordinary tensors as well, which each process holds whole.
"""

from collections.abc import Iterable
from inspect import signature
from typing import Any, TypeGuard

import torch
import torch.distributed as dist
from torch import Tensor, nn

try:
    from torch.distributed.tensor import DTensor, distribute_tensor
except ImportError:  # torch before 2.5, or built without processes
    DTensor: Any = None  # type: ignore[no-redef]


def check_torch() -> None:
    """Check that this torch shares tensors, and reads them from checkpoints, as is needed here.

    Raises:
        RuntimeError: If it is too old, as 2.6 is.
    """
    from torch.distributed.checkpoint import load

    needed = ((distribute_tensor, 'src_data_rank'), (load, 'no_dist'))
    if any(name not in signature(function).parameters for function, name in needed):
        raise RuntimeError(
            f'Weights in shards need a newer torch than {torch.__version__}: 2.6 is too old, 2.11 '
            'was tried.'
        )


def is_sharded(tensor: Any) -> TypeGuard[Any]:
    """Tell whether a tensor is shared by processes."""
    return DTensor is not None and isinstance(tensor, DTensor)


def has_shards(module: nn.Module) -> bool:
    """Tell whether processes share parameters of a module."""
    return any(map(is_sharded, module.parameters()))


@torch.no_grad()
def local_parts(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return what this process holds of each tensor, in the same memory.

    Args:
        tensors: Of any shapes.
    """
    return [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]


def sum_over_shards(values: Tensor, tensor: Tensor) -> Tensor:
    """Sum what processes have computed of their parts; all of them must call it.

    Processes that hold the same part, as replicas do, are not summed.

    Args:
        values: Of this process, any shape; changed in place.
        tensor: Tells how the parts are spread. An ordinary tensor: nothing is summed.

    Returns:
        The sums, of the same shape.
    """
    if is_sharded(tensor):
        for dim, placement in enumerate(tensor.placements):
            if placement.is_shard():
                dist.all_reduce(values, group=tensor.device_mesh.get_group(dim))
    return values


def shard_like(values: Tensor, target: Tensor) -> Tensor:
    """Spread a tensor that every process holds as another one is; nothing is sent.

    Args:
        values: Any shape; returned as it is where it is sharded already, or where ``target`` is
            not sharded or has another shape.
        target: The other tensor.
    """
    if not is_sharded(target) or is_sharded(values) or values.shape != target.shape:
        return values
    values = values.detach().to(target.device)
    return distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)
