# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Another image in place of one that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import DefaultSampler, default_collate
from torch.utils.data import DataLoader

from ibot_mm.datasets import (
    ImageFolder,
    LoadImage,
    MultiCrop,
    PackMultiCrop,
    SeededBatchSampler,
)


@pytest.fixture
def folder(tmp_path, image_files):
    """Eight images; those whose number is a multiple of 4 are broken."""
    for i, path in enumerate(image_files):
        (tmp_path / f'{i}.jpg').write_bytes(Path(path).read_bytes() if i % 4 else b'broken')
    return tmp_path


def images(folder, **options):
    crops = MultiCrop(2, 16, num_local_crops=0)
    pipeline = [LoadImage(on_error='skip'), crops, PackMultiCrop()]
    return ImageFolder(str(folder), pipeline=pipeline, **options)


def read(folder, num_workers=0, num_epochs=1, seed=0, **options):
    """Which file stands in which place, and which were skipped for it."""
    dataset = images(folder, **options)
    batches = SeededBatchSampler(DefaultSampler(dataset, shuffle=False), 4)
    batches.seed = seed
    loader = DataLoader(
        dataset, batch_sampler=batches, collate_fn=default_collate, num_workers=num_workers
    )
    samples = []
    for epoch in range(num_epochs):
        batches.set_epoch(epoch)
        for batch in loader:
            assert batch['inputs']['global_crops'].shape == (4, 2, 3, 16, 16)
            samples += batch['data_samples']
    return [
        (Path(s.img_path).stem, [Path(path).stem for path, _ in s.get('skipped_images', [])])
        for s in samples
    ]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_each_skip_is_named_once_where_its_replacement_stands(folder, num_workers):
    samples = read(folder, num_workers)
    for place, (name, skipped) in enumerate(samples):
        assert int(name) % 4
        assert (name, skipped) == (str(place), []) if place % 4 else skipped[0] == str(place)
        assert set(skipped) <= {'0', '4'}
    assert samples == read(folder)


def test_replacements_differ_with_epoch_and_seed(folder):
    samples = read(folder, num_epochs=12)
    replacements = [name for place, (name, _) in enumerate(samples) if place % 4 == 0]
    assert len(set(replacements)) > 4
    assert samples[:8] != read(folder, num_epochs=12, seed=1)[:8]


def test_mostly_broken_images_do_not_end_a_training(tmp_path, image_files):
    """Seven of eight: each retry samples again, so that no cycle of broken ones can last."""
    for i in range(8):
        content = Path(image_files[0]).read_bytes() if i == 3 else b'broken'
        (tmp_path / f'{i}.jpg').write_bytes(content)
    samples = read(tmp_path, num_epochs=20)
    assert {name for name, _ in samples} == {'3'}
    assert max(len(skipped) for _, skipped in samples) > 8


def test_numpys_global_generator_is_left_alone(folder):
    dataset = images(folder)
    np.random.seed(0)
    first = [dataset[0].get('data_samples').img_path for _ in range(3)]
    assert len(set(first)) == 1  # outside of a data loader, too, it follows from the index


def test_nothing_to_read_is_an_error_with_names(tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(b'broken')
    with pytest.raises(RuntimeError, match=r'(?s)4 images were skipped.*bad\.jpg: \w+.*Repair'):
        read(tmp_path, max_refetch=3)
