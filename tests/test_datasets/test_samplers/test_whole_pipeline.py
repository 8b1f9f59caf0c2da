# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""All that the training pipeline draws follows from the presentation."""

import copy
import os

import pytest
import torch
from mmengine.dataset import DefaultSampler, default_collate
from torch.utils.data import DataLoader

from ibot_mm.datasets import (
    ImageFolder,
    LoadImage,
    MaskGenerator,
    MultiCrop,
    PackMultiCrop,
    PhotometricAugmentation,
    SeededBatchSampler,
)

pytestmark = pytest.mark.slow


def images(paths, apply=False):
    """A data set with the whole pipeline, small crops."""
    steps = [
        LoadImage(),
        MultiCrop(2, 32, num_local_crops=2, local_crop_size=16),
        PhotometricAugmentation(apply=apply),
        MaskGenerator(8),
        PackMultiCrop(),
    ]
    return ImageFolder(os.path.dirname(paths[0]), indices=len(paths), pipeline=steps)


def epochs(dataset, number=2, **kwargs):
    """Tensors of all batches of some epochs from one loader."""
    batches = SeededBatchSampler(DefaultSampler(dataset, shuffle=False, seed=0), 2)
    loader = DataLoader(dataset, batch_sampler=batches, collate_fn=default_collate, **kwargs)
    tensors = []
    for epoch in range(number):
        batches.set_epoch(epoch)
        tensors += [batch['inputs'] for batch in loader]
    return tensors


def equal(first, second):
    return all(
        torch.equal(one[key], other[key])
        for one, other in zip(first, second, strict=True)
        for key in one
    )


@pytest.mark.parametrize('apply', [False, True])
def test_in_workers(image_files, apply):
    reference = epochs(images(image_files, apply))
    workers = dict(num_workers=2, persistent_workers=True)
    assert equal(epochs(images(image_files, apply), **workers), reference)


@pytest.mark.long
def test_in_spawned_workers(image_files):
    workers = dict(num_workers=1, persistent_workers=True, multiprocessing_context='spawn')
    files = image_files[:2]
    assert equal(epochs(images(files), **workers), epochs(images(files)))


def test_epochs_differ_in_all_that_is_drawn(image_files):
    tensors = epochs(images(image_files))
    for first, second in zip(tensors[:4], tensors[4:]):
        for key in ('augmentation', 'global_crops', 'local_crops'):
            assert not torch.equal(first[key], second[key])
    assert any(not torch.equal(a['masks'], b['masks']) for a, b in zip(tensors[:4], tensors[4:]))


def test_a_copy_draws_the_same(image_files):
    dataset = images(image_files[:2])
    assert equal(epochs(copy.deepcopy(dataset)), epochs(dataset))
