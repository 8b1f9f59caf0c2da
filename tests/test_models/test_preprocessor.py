# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch

from ibot_mm.functional import augmentation as A
from ibot_mm.models import MultiCropPreprocessor

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def crops(number, size, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (2, number, 3, size, size), generator=generator).to(torch.uint8)


def drawn(*shape):
    rows = np.stack([A.GLOBAL_REST.as_row()] * int(np.prod(shape)))
    parameters = A.sample_parameters(rows, np.random.default_rng(1))
    return torch.from_numpy(parameters).unflatten(0, shape)


@pytest.fixture
def batch():
    """Two images with two global and three local crops."""
    return dict(
        global_crops=crops(2, 32, 0),
        local_crops=crops(3, 16, 1),
        masks=torch.zeros(2, 2, 2, 2, dtype=torch.bool),
        augmentation=drawn(2, 5),
    )


def test_augments_and_normalizes_every_crop_by_its_row(batch):
    preprocess = MultiCropPreprocessor(mean=MEAN, std=STD, to_rgb=True)
    before = {name: value.clone() for name, value in batch.items()}
    result = preprocess(dict(inputs=batch, data_samples=[]), True)['inputs']
    assert set(result) == {'global_crops', 'local_crops', 'masks', 'masked_patches'}
    for name, rows in (('global_crops', slice(2)), ('local_crops', slice(2, None))):
        for image in range(2):
            rgb = before[name][image].flip(1)  # from BGR
            A.apply_augmentation(rgb, before['augmentation'][image, rows])
            mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
            assert (result[name][image] == (rgb.float() - mean) / std).all()
    for name, value in batch.items():
        assert (value == before[name]).all()  # the loader's tensors stay as they are


def test_without_augmentation_normalization_and_local_crops(batch):
    inputs = dict(global_crops=batch['global_crops'], masks=batch['masks'])
    result = MultiCropPreprocessor()(dict(inputs=inputs), True)['inputs']
    assert set(result) == {'global_crops', 'masks', 'masked_patches'}
    assert result['global_crops'].dtype == torch.float32
    assert (result['global_crops'] == batch['global_crops']).all()


def test_float_crops_are_normalized_alike(batch):
    """Of somebody else's pipeline."""
    preprocess = MultiCropPreprocessor(mean=MEAN, std=STD)
    results = [
        preprocess(dict(inputs=dict(global_crops=images)), True)['inputs']['global_crops']
        for images in (batch['global_crops'], batch['global_crops'].float())
    ]
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_host_never_waits_for_the_device(batch):
    """Meta tensors have no values: reading one, as a wait for it would, is an error."""
    preprocess = MultiCropPreprocessor(mean=MEAN, std=STD, to_rgb=True).to('meta')
    result = preprocess(dict(inputs=batch), True)['inputs']
    assert result['local_crops'].shape == (2, 3, 3, 16, 16)
    assert result['local_crops'].device.type == 'meta'
