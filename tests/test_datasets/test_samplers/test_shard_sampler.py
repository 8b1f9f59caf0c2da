# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest

from ibot_mm.datasets import SeededBatchSampler, ShardSampler


class Shards:
    """A data set of shards of some sizes."""

    def __init__(self, *sizes):
        self.data_list = self
        self.blocks = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self):
        return len(self.blocks)


def orders(dataset, world_size=1, epoch=0, **options):
    """Indices of each process."""
    options = dict(seed=0, block_size=5, buffer_size=8) | options
    each = []
    for rank in range(world_size):
        sampler = ShardSampler(dataset, **options)
        sampler.rank, sampler.world_size = rank, world_size
        sampler.set_epoch(epoch)
        each.append(list(sampler))
        assert len(each[-1]) == len(sampler)
    return each


@pytest.mark.parametrize('sizes', [(100,), (30, 1, 69), (7,) * 14 + (2,)])
@pytest.mark.parametrize('world_size', [1, 2, 4, 25])
@pytest.mark.parametrize('workers', [dict(), dict(num_workers=3, batch_size=4)])
@pytest.mark.parametrize('shuffle', [True, False])
def test_every_image_once_however_few_shards(sizes, world_size, workers, shuffle):
    each = orders(Shards(*sizes), world_size, shuffle=shuffle, **workers)
    assert sorted(sum(each, [])) == list(range(100))
    assert each == orders(Shards(*sizes), world_size, shuffle=shuffle, **workers)


def test_what_is_left_over_comes_twice():
    each = orders(Shards(10, 4), 4)
    counts = np.bincount(sum(each, []), minlength=14)
    assert {len(order) for order in each} == {4} and sorted(counts)[-3:] == [1, 2, 2]
    (one,) = orders(Shards(3), 1, num_workers=8, batch_size=2)
    assert sorted(one) == [0, 1, 2]
    assert orders(Shards(1), 4) == [[0]] * 4


def test_order_depends_on_seed_and_epoch():
    (first,), (second,) = orders(Shards(50, 50)), orders(Shards(50, 50), epoch=1)
    (other,) = orders(Shards(50, 50), seed=1)
    assert first != second and first != other and second != other
    assert first != list(range(100)) == orders(Shards(50, 50), shuffle=False)[0]


@pytest.mark.parametrize('world_size', [1, 4])
def test_each_worker_reads_few_shards_at_a_time(world_size):
    """Batches that one worker takes, of 16 shards of 100: neighbors are of one or two blocks."""
    dataset = Shards(*[100] * 16)
    options = dict(block_size=100, buffer_size=50, num_workers=2, batch_size=10)
    for order in orders(dataset, world_size, **options):
        batches = np.array(order).reshape(-1, 10)
        for worker in range(2):
            mine = dataset.blocks[batches[worker::2]]
            assert max(len(set(batch)) for batch in mine) <= 3
            assert len(set(mine.ravel())) <= 16 / world_size / 2 + 1
    (mixed,) = orders(dataset, block_size=100, buffer_size=0)
    assert (np.diff(mixed) == 1).mean() > 0.98  # blocks are read as they lie


def test_images_move_within_the_buffer():
    (order,) = orders(Shards(1000), block_size=1000, buffer_size=100)
    moves = np.abs(np.array(order) - np.arange(1000))
    assert 20 < moves.mean() < 60 and moves.max() <= 100


def test_goes_on_at_the_sample():
    batches = SeededBatchSampler(ShardSampler(Shards(20, 11), seed=0, block_size=4), 4)
    batches.set_epoch(3)
    whole = [(batch.indices, batch.presentations) for batch in batches]
    for done in (0, 1, 5, 8):
        batches.set_epoch(3)
        batches.skip(done)
        assert [(batch.indices, batch.presentations) for batch in batches] == whole[done:]


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(block_size=0), 'block_size must be at least 1, got 0'),
        (dict(buffer_size=-1), 'buffer_size must be at least 0, got -1'),
        (dict(num_workers=0), 'num_workers must be at least 1, got 0'),
        (dict(num_workers=2), 'num_workers=2 set batch_size'),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        ShardSampler(Shards(4), seed=0, **options)
