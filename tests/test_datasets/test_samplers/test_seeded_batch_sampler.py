# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is drawn for an image is a function of the seed and its presentation."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import (
    BaseDataset,
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from mmpretrain.datasets import RepeatAugSampler
from torch.utils.data import DataLoader, RandomSampler, Subset

from ibot_mm.datasets import SeededBatchSampler
from ibot_mm.datasets.presentation import current_presentation
from ibot_mm.datasets.samplers import seeded_batch_sampler

SIZE = 6


class Images(BaseDataset):
    """Six "images", whose views are what the three generators give."""

    def __init__(self, name='a'):
        self.name = name
        super().__init__(pipeline=[self.view], serialize_data=False)

    def load_data_list(self):
        return [dict(image=f'{self.name}{i}') for i in range(SIZE)]

    def get_cat_ids(self, idx):
        return [int(idx == 0)]

    def view(self, results):
        draws = random.random(), np.random.random(), torch.rand(1).item()
        return dict(image=results['image'], view=draws, epoch=current_presentation().epoch)


def loader(dataset, sampler=None, batch_size=3, num_workers=0, drop_last=False, **options):
    batches = SeededBatchSampler(
        sampler or DefaultSampler(dataset, seed=0), batch_size, drop_last=drop_last
    )
    return DataLoader(
        dataset, batch_sampler=batches, collate_fn=list, num_workers=num_workers, **options
    )


def epochs(data, number=2):
    """Samples of some epochs."""
    samples = []
    for epoch in range(number):
        data.batch_sampler.set_epoch(epoch)
        samples += [sample for batch in data for sample in batch]
    return samples


def assert_distinct(samples):
    for draws in zip(*[sample['view'] for sample in samples]):
        assert len(set(draws)) == len(samples)


def repeated():
    return RepeatDataset(Images(), times=4)


def concatenated():
    return ConcatDataset([Images('a'), Images('b')])


def balanced():
    return ClassBalancedDataset(Images(), oversample_thr=0.9)


@pytest.mark.parametrize('build', [Images, repeated, concatenated, balanced])
@pytest.mark.parametrize('workers', [dict(), dict(num_workers=2, persistent_workers=True)])
def test_views_differ_in_all_wrappers_and_epochs(build, workers):
    samples = epochs(loader(build(), **workers))
    assert len(samples) == 2 * len(build())
    assert_distinct(samples)


def test_equal_inner_indices_of_one_epoch():
    first = {sample['image']: sample['view'] for sample in epochs(loader(concatenated()), 1)}
    assert not any(set(first[f'a{i}']) & set(first[f'b{i}']) for i in range(SIZE))


@pytest.mark.parametrize('num_repeats', [3])
def test_repeated_augmentation(num_repeats, monkeypatch):
    dataset, samples = Images(), []
    for rank in range(num_repeats):
        monkeypatch.setattr(seeded_batch_sampler, 'get_dist_info', lambda rank=rank: (rank, 3))
        sampler = RepeatAugSampler(dataset, num_repeats=num_repeats, seed=0)
        sampler.rank, sampler.world_size = rank, num_repeats
        sampler.num_samples, sampler.total_size = SIZE, SIZE * num_repeats
        sampler.num_selected_samples = SIZE // num_repeats
        samples += epochs(loader(dataset, sampler), 1)
    images = [sample['image'] for sample in samples]
    assert all(images.count(image) == num_repeats for image in images)
    assert_distinct(samples)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_sampler_without_end(num_workers):
    dataset = Images()
    data = loader(dataset, InfiniteSampler(dataset, seed=0), 4, num_workers)
    batches = list(islice(data, 6))
    samples = [sample for batch in batches for sample in batch]
    assert_distinct(samples)
    assert [sample['epoch'] for sample in samples] == [i / SIZE for i in range(24)]
    assert data.batch_sampler.batches_per_epoch == 1.5


@pytest.mark.parametrize(
    'workers',
    [
        dict(num_workers=1),
        dict(num_workers=2, persistent_workers=True),
        dict(num_workers=3, prefetch_factor=4),
    ],
)
def test_the_number_of_workers_does_not_matter(workers):
    assert epochs(loader(repeated(), **workers)) == epochs(loader(repeated()))


def test_nor_does_the_size_of_a_batch():
    assert epochs(loader(Images(), batch_size=2)) == epochs(loader(Images(), batch_size=5))


@pytest.mark.parametrize('endless', [True, False])
def test_more_processes_see_the_same_images_drawn_alike(monkeypatch, endless):
    dataset, together = Images(), []

    def batches(rank, world, size):
        monkeypatch.setattr(seeded_batch_sampler, 'get_dist_info', lambda: (rank, world))
        monkeypatch.setattr(seeded_batch_sampler, 'get_world_size', lambda: world)
        sampler = (InfiniteSampler if endless else DefaultSampler)(dataset, seed=0)
        sampler.rank, sampler.world_size = rank, world
        if not endless:
            sampler.num_samples = SIZE // world
        data = loader(dataset, sampler, size)
        return list(islice(data, 3))

    alone = batches(0, 1, 2)
    for first, second in zip(batches(0, 2, 1), batches(1, 2, 1)):
        together.append(first + second)
    assert together == alone


@pytest.mark.parametrize('endless', [True, False])
@pytest.mark.parametrize('num_workers', [0, 1])
def test_goes_on_after_any_batch(endless, num_workers):
    def batches(skip):
        dataset = Images()
        sampler = (InfiniteSampler if endless else DefaultSampler)(dataset, seed=3)
        data = loader(dataset, sampler, 2, num_workers)
        data.batch_sampler.set_epoch(1)
        data.batch_sampler.skip(skip)
        return list(islice(data, 7 - skip))

    whole = batches(0)
    assert len(whole) == (7 if endless else 3)
    for skip in range(3):
        assert batches(skip) == whole[skip:]


def test_only_the_next_round_is_cut_short():
    data = loader(Images(), batch_size=2)
    data.batch_sampler.skip(2)
    assert [len(list(data)) for _ in range(2)] == [1, 3]
    with pytest.raises(ValueError, match='num_batches .* is -1'):
        data.batch_sampler.skip(-1)


def test_epochs_can_be_reached_at_once():
    data = loader(Images())
    data.batch_sampler.set_epoch(1)
    assert [sample for batch in data for sample in batch] == epochs(loader(Images()))[SIZE:]


def test_rounds_of_a_sampler_that_knows_no_epochs():
    dataset = Images()
    data = loader(dataset, RandomSampler(dataset))
    assert_distinct([sample for _ in range(3) for batch in data for sample in batch])


@pytest.mark.parametrize('change', ['seed', 'round', 'position'])
def test_every_part_changes_the_draws(change):
    def first(**changed):
        data = loader(Images(), DefaultSampler(Images(), shuffle=False))
        data.batch_sampler.seed = changed.get('seed', 0)
        data.batch_sampler.set_epoch(changed.get('round', 0))
        return [sample for batch in data for sample in batch][changed.get('position', 0)]

    assert not set(first()['view']) & set(first(**{change: 1})['view'])


def test_large_seeds():
    data = loader(Images())
    data.batch_sampler.seed = 2**32 - 1
    assert_distinct(epochs(data))


def test_outside_of_a_batch_there_is_no_presentation():
    assert current_presentation() is None
    epochs(loader(Images()))
    assert current_presentation() is None
    with pytest.raises(AttributeError):
        Images()[0]


@pytest.mark.parametrize(('drop_last', 'sizes'), [(False, [4, 2]), (True, [4])])
def test_last_batch(drop_last, sizes):
    data = loader(Images(), batch_size=4, drop_last=drop_last)
    assert [len(batch) for batch in data] == sizes and len(data) == len(sizes)
    assert data.batch_sampler.batches_per_epoch == len(sizes)


def test_subset_of_torch():
    assert_distinct(epochs(loader(Subset(Images(), [3, 3, 1, 1]))))


def test_seed_of_the_sampler_is_the_default():
    assert SeededBatchSampler(DefaultSampler(Images(), seed=5), 2).seed == 5
