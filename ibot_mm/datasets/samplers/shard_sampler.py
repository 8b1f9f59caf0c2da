# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from ibot_mm.registry import DATA_SAMPLERS


@DATA_SAMPLERS.register_module()
class ShardSampler(Sampler[int]):
    """Shuffles so that each worker reads one part of a shard after the other.

    For stores where reading in any order is slow: parquet, spinning disks, copies of remote shards.
    Only indices are shuffled, so that a training resumes at the sample, without reading anything:

    1. shards are cut into blocks of neighboring images, which are permuted for each epoch;
    2. the images in this order are dealt in equal runs to the processes, then to their workers, so
       that there may be fewer shards than workers;
    3. within a run each image moves by up to ``buffer_size`` places, as in a shuffle buffer.

    Every image comes once in an epoch, but for the first few, which come twice where the number is
    not a multiple of the processes, as in mmengine's ``DefaultSampler``. The order depends on the
    seed, the epoch, and the numbers of processes and workers.

    Args:
        dataset: Data set of N samples; one of :mod:`ibot_mm.datasets.stores` tells its shards.
        shuffle: Defaults to True. Without it images come in order, run by run.
        seed: The same in all processes. Defaults to None: one is agreed on.
        block_size: Images of a block at most. Defaults to 1000.
        buffer_size: Places that an image may move. Defaults to 10,000.
        num_workers: Of the data loader. Defaults to 1: all workers read the same run.
        batch_size: Of each process; needed with several workers, which take a batch in turn.
            Defaults to None.

    Raises:
        ValueError: If a number is out of its range, or ``batch_size`` is missing.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        block_size: int = 1000,
        buffer_size: int = 10_000,
        num_workers: int = 1,
        batch_size: int | None = None,
    ) -> None:
        for name, value, low in (
            ('block_size', block_size, 1),
            ('buffer_size', buffer_size, 0),
            ('num_workers', num_workers, 1),
        ):
            if value < low:
                raise ValueError(f'ShardSampler: {name} must be at least {low}, got {value}')
        if num_workers > 1 and not batch_size:
            raise ValueError(
                f'ShardSampler: with num_workers={num_workers} set batch_size to that of the data '
                'loader: workers take batches in turn'
            )
        self.rank, self.world_size = get_dist_info()
        self.dataset, self.shuffle = dataset, shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.block_size, self.buffer_size = block_size, buffer_size
        self.num_workers, self.batch_size = num_workers, batch_size or 1
        self.epoch = 0

    @property
    def order_depends_on(self) -> str:
        """What, besides seed and epoch, changes the order."""
        return (
            f'{self.world_size} processes, {self.num_workers} workers, batches of {self.batch_size}'
        )

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.world_size)

    def __iter__(self) -> Iterator[int]:
        order = self._permuted_blocks()
        run = order[np.arange(self.rank * len(self), (self.rank + 1) * len(self)) % len(order)]
        runs = [self._move(part, n) for n, part in enumerate(np.array_split(run, self.num_workers))]
        size = self.batch_size if self.num_workers > 1 else len(self)
        whole = min(len(part) // size for part in runs)
        in_turn = [part[i * size : (i + 1) * size] for i in range(whole) for part in runs]
        rest = [part[whole * size :] for part in runs]
        yield from np.concatenate([*in_turn, *rest]).tolist()

    def _permuted_blocks(self) -> np.ndarray:
        """All indices, (N,), neighbors together."""
        number = len(self.dataset)
        order = np.arange(number)
        if not self.shuffle:
            return order
        shard = shards_of(self.dataset)
        begins = np.flatnonzero(np.diff(shard, prepend=shard[:1] - 1))
        ends = np.append(begins[1:], number)
        blocks = [
            order[start : min(start + self.block_size, end)]
            for begin, end in zip(begins, ends, strict=True)
            for start in range(begin, end, self.block_size)
        ]
        places = self._generator().permutation(len(blocks))
        return np.concatenate([blocks[place] for place in places])

    def _move(self, part: np.ndarray, stream: int) -> np.ndarray:
        if not self.shuffle:
            return part
        moved = self._generator(self.rank, stream).uniform(0, self.buffer_size, len(part))
        return part[np.argsort(np.arange(len(part)) + moved, kind='stable')]

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng(
            np.random.SeedSequence([self.seed, self.epoch], spawn_key=stream)
        )


def shards_of(dataset: Any) -> np.ndarray:
    """Return the number of the shard of each image, (N,); 0 where a data set does not tell."""
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    blocks = getattr(getattr(dataset, 'data_list', None), 'blocks', None)
    return np.zeros(len(dataset), np.int64) if blocks is None else np.asarray(blocks)
