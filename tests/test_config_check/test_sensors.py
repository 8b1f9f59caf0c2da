# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Channels and values of images against what a config says of them, before anything is trained."""

import copy
import re

import numpy as np
import pytest

from ibot_mm.config_check import check_config

LOAD = 'train_dataloader.dataset.pipeline.load'
AUGMENT = 'train_dataloader.dataset.pipeline.augment'
MEAN = 'model.data_preprocessor.mean'


@pytest.fixture(scope='module')
def arrays(tmp_path_factory):
    """Class folders of .npy with six channels of 0 to 10000."""
    root, rng = tmp_path_factory.mktemp('arrays'), np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in range(2):
            folder = root / split / f'class_{label}'
            folder.mkdir(parents=True)
            for index in range(4):
                np.save(folder / f'{index}.npy', rng.integers(0, 10000, (20, 20, 6), dtype='u2'))
    return root


@pytest.fixture
def sound(arrays, shrink):
    cfg = shrink('pretrain/ibot_vits16_multispectral.py', arrays)
    cfg.model.backbone.in_channels = 6
    cfg.model.data_preprocessor.update(mean=[127.0] * 6, std=[70.0] * 6)
    splits = [cfg.val_dataloader.dataset[split] for split in ('bank', 'query')]
    for dataset in (cfg.train_dataloader.dataset, *splits):
        dataset.extensions = ['.npy']
        dataset.pipeline.load.channels = 6
    cfg.test_dataloader = copy.deepcopy(cfg.val_dataloader)
    return cfg


def test_sound(sound):
    assert check_config(sound) == []


@pytest.mark.parametrize(
    ('key', 'value', 'place', 'expected'),
    [
        ('model.backbone.in_channels', 4, f'{LOAD}.channels', '6 channels are read, .* takes 4'),
        (MEAN, [1.0] * 3, 'model.data_preprocessor', 'mean has 3 channels, std 6'),
        ('model.data_preprocessor', dict(mean=[1.0] * 3, std=[1.0] * 3), MEAN, '3 .* 6 are read'),
        ('model.data_preprocessor.to_rgb', True, 'model.data_preprocessor.to_rgb', 'to False'),
        (f'{AUGMENT}.local', dict(_delete_=True), AUGMENT, 'mean nothing for images of 6 channels'),
        (f'{LOAD}.in_range', (0, 10_000_000), f'{LOAD}.in_range', 'leaves nothing .* become 0.00'),
        (f'{LOAD}.in_range', (-9, 0), f'{LOAD}.in_range', 'leaves nothing .* become 255 to 255'),
        (f'{LOAD}.in_range', None, LOAD, 'its values are uint16'),
        (f'{LOAD}.channels', 5, LOAD, 'has 6 channels, not the 5'),
    ],
)
def test_fault_is_named(sound, key, value, place, expected):
    sound.merge_from_dict({key: value})
    faults = check_config(sound)
    found = [fault for fault in faults if fault.startswith(place)]
    assert found, faults
    assert any(re.search(expected, fault) for fault in found), faults
