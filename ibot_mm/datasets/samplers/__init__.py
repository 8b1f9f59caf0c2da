# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which samples make a batch, and what their random numbers depend on."""

from .seeded_batch_sampler import SeededBatchSampler
from .shard_sampler import ShardSampler

__all__ = ['SeededBatchSampler', 'ShardSampler']
