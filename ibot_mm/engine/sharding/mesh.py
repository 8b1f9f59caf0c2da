# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which processes share one copy of the weights."""

from typing import Any

import torch.distributed as dist
from mmengine.config import Config
from mmengine.device import get_device

NAME = 'ibot_mm.ShardedDataParallel'
ONE_PROCESS = (
    f'model_wrapper_cfg.type={NAME} shares the weights between processes, and there is one: start '
    'several, as by tools/dist_train.sh, or train unsharded with '
    'model_wrapper_cfg=dict(_delete_=True, type="MMDistributedDataParallel").'
)


def build_mesh(num_shards: int | None = None) -> Any:
    """Arrange the processes, neighbors sharing a copy of the weights.

    Args:
        num_shards: Processes that share one copy. Defaults to None, all.

    Returns:
        A ``DeviceMesh`` of one dimension, ``shard``, or of two, ``replicate`` and ``shard``.

    Raises:
        ValueError: If there is one process, or ``num_shards`` does not divide their number.
    """
    from torch.distributed.device_mesh import init_device_mesh

    number = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
    if number == 1:
        raise ValueError(ONE_PROCESS)
    shards = number if num_shards is None else num_shards
    if not isinstance(shards, int) or isinstance(shards, bool) or shards < 2 or number % shards:
        fitting = [n for n in range(2, number + 1) if number % n == 0]
        raise ValueError(
            f'model_wrapper_cfg.num_shards is {num_shards!r}: {number} processes can share the '
            f'weights by {", ".join(map(str, fitting))}, or None for all of them.'
        )
    device = get_device().partition(':')[0]
    if shards == number:
        return init_device_mesh(device, (number,), mesh_dim_names=('shard',))
    shape = (number // shards, shards)
    return init_device_mesh(device, shape, mesh_dim_names=('replicate', 'shard'))


def is_sharding(cfg: Config) -> bool:
    """Tell whether a config asks for shards."""
    kind = (cfg.get('model_wrapper_cfg') or {}).get('type')
    return kind == NAME or getattr(kind, '__name__', '') == NAME.partition('.')[2]


def refuse_one_process(cfg: Config) -> None:
    """Check that a config that asks for shards is started in several processes.

    Args:
        cfg: With ``launcher`` set.

    Raises:
        ValueError: If it is not; mmengine would leave out the wrapper without a word.
    """
    if is_sharding(cfg) and cfg.get('launcher', 'none') == 'none':
        raise ValueError(ONE_PROCESS)
