# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .mesh import refuse_one_process
from .wrapper import ShardedDataParallel

__all__ = ['ShardedDataParallel', 'refuse_one_process']
