# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .mesh import is_sharding, refuse_one_process
from .wrapper import ELEMENTWISE, ShardedDataParallel

__all__ = ['ELEMENTWISE', 'ShardedDataParallel', 'is_sharding', 'refuse_one_process']
