# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The whole training pipeline is a function of seed, epoch, process and image."""

import copy
import os
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from torch.utils.data import DataLoader

from ibot_mm.datasets import ImageFolder
from ibot_mm.datasets.transforms import (
    LoadImage,
    MaskGenerator,
    MultiCrop,
    PackMultiCrop,
    PhotometricAugmentation,
    SeedSample,
    seed_sample,
)


def images(paths, apply=False):
    """A data set with the whole pipeline, small crops."""
    steps = [
        LoadImage(),
        MultiCrop(2, 32, num_local_crops=2, local_crop_size=16),
        PhotometricAugmentation(apply=apply),
    ]
    pipeline = [SeedSample(), *steps, MaskGenerator(8), PackMultiCrop()]
    return ImageFolder(os.path.dirname(paths[0]), indices=len(paths), pipeline=pipeline)


def seeds(dataset):
    return dataset.pipeline.transforms[0]


def epochs(dataset, number=2, **kwargs):
    """All batches of some epochs from one loader, as one list of tensors."""
    loader = DataLoader(dataset, batch_size=2, collate_fn=default_collate, **kwargs)
    tensors = []
    for epoch in range(number):
        seeds(dataset).set_epoch(epoch)
        for batch in loader:
            tensors.extend(batch['inputs'][key] for key in sorted(batch['inputs']))
    return tensors


def equal(first, second):
    return [torch.equal(one, other) for one, other in zip(first, second, strict=True)]


@pytest.mark.parametrize(
    'workers',
    [
        dict(num_workers=0),
        dict(num_workers=1),
        dict(num_workers=2),
        dict(num_workers=2, persistent_workers=True),
        dict(num_workers=3, persistent_workers=True, prefetch_factor=4),
    ],
)
def test_same_whatever_the_workers(image_files, workers):
    reference = epochs(images(image_files))
    assert all(equal(epochs(images(image_files), **workers), reference))


def test_same_whatever_the_workers_when_they_augment(image_files):
    reference = epochs(images(image_files, apply=True))
    assert all(equal(epochs(images(image_files, apply=True), num_workers=2), reference))


def test_same_in_spawned_persistent_workers(image_files):
    workers = dict(num_workers=1, persistent_workers=True, multiprocessing_context='spawn')
    files = image_files[:2]
    assert all(equal(epochs(images(files), **workers), epochs(images(files))))


def test_epochs_differ_and_can_be_reached_at_once(image_files):
    both = epochs(images(image_files))
    first, second = both[: len(both) // 2], both[len(both) // 2 :]
    crops = slice(1, None, 4)  # augmentation, global_crops, local_crops, masks
    assert not any(equal(first[crops], second[crops]))
    resumed = images(image_files)
    seeds(resumed).set_epoch(1)
    loader = DataLoader(resumed, batch_size=2, collate_fn=default_collate)
    tensors = [batch['inputs'][key] for batch in loader for key in sorted(batch['inputs'])]
    assert all(equal(tensors, second))


def test_order_of_the_images_does_not_matter(image_files):
    dataset = images(image_files)
    forward = [dataset[i]['inputs']['global_crops'] for i in range(8)]
    backward = [dataset[i]['inputs']['global_crops'] for i in reversed(range(8))]
    assert all(equal(forward, backward[::-1]))


def draws(transform, index=0):
    epoch = transform(dict(sample_idx=index))['epoch']
    return epoch, random.random(), np.random.random(), torch.rand(1).item()


def test_seeds_all_generators():
    transform = SeedSample()
    transform.set_epoch(4, seed=3)
    first = draws(transform)
    assert first[0] == 4
    assert draws(transform) == first
    assert len(set(first[1:])) == 3


@pytest.mark.parametrize('change', ['seed', 'epoch', 'rank', 'sample_idx'])
def test_every_part_changes_the_draws(change, monkeypatch):
    transform = SeedSample()
    reference = draws(transform)
    if change == 'rank':
        monkeypatch.setattr(seed_sample, 'get_rank', lambda: 1)
    transform.set_epoch(int(change == 'epoch'), seed=int(change == 'seed'))
    other = draws(transform, index=int(change == 'sample_idx'))
    assert not set(reference[1:]) & set(other[1:])


def test_rank_is_read_again_with_the_epoch(monkeypatch):
    """The data set may have been built before the process group."""
    transform = SeedSample()
    monkeypatch.setattr(seed_sample, 'get_rank', lambda: 1)
    reference = draws(SeedSample())
    transform.set_epoch(0)
    assert draws(transform) == reference


def test_copies_have_an_epoch_of_their_own(image_files):
    dataset = images(image_files[:2])
    other = copy.deepcopy(dataset)
    seeds(dataset).set_epoch(5)
    assert other[0]['inputs'].keys() and draws(seeds(other))[0] == 0
    workers = dict(num_workers=1, persistent_workers=True)
    assert all(equal(epochs(other, **workers), epochs(images(image_files[:2]))))


def test_sample_idx_is_needed():
    with pytest.raises(ValueError, match='sample_idx'):
        SeedSample()({})
