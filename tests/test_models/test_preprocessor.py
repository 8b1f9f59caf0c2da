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


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
@pytest.mark.parametrize('channels', [1, 6])
def test_any_number_of_channels(channels, dtype):
    mean = torch.linspace(90, 130, channels)
    std = torch.linspace(40, 60, channels)
    module = MultiCropPreprocessor(mean=mean.tolist(), std=std.tolist())
    crops = torch.randint(0, 256, (2, 2, channels, 8, 8)).to(dtype)
    output = module(dict(inputs=dict(global_crops=crops)))['inputs']['global_crops']
    expected = (crops.float() - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=1e-6)
    images = module(dict(inputs=crops[0]))['inputs']  # of a validation
    torch.testing.assert_close(images, expected[0], atol=1e-6, rtol=1e-6)
    one = MultiCropPreprocessor(mean=[100.0], std=[50.0])
    output = one(dict(inputs=dict(global_crops=crops)))['inputs']['global_crops']
    torch.testing.assert_close(output, (crops.float() - 100) / 50, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ('options', 'channels', 'expected'),
    [
        (dict(mean=[1.0] * 3, std=[1.0] * 3), 6, '6 channels, and mean and std are of 3.*measure'),
        (dict(mean=[1.0] * 6, std=[1.0] * 6), 4, '4 channels, and mean and std are of 6'),
        (dict(mean=[1.0], std=[1.0], to_rgb=True), 6, 'to_rgb=True is for BGR.*6 channels'),
    ],
)
def test_other_channels_than_the_mean(options, channels, expected):
    """Which would be broadcast, or fail with no word about the cause."""
    module = MultiCropPreprocessor(**options)
    crops = torch.zeros(2, 2, channels, 8, 8, dtype=torch.uint8)
    for inputs in (dict(global_crops=crops), crops[0], [*crops[0]]):
        with pytest.raises(ValueError, match=expected):
            module(dict(inputs=inputs))


def test_as_many_deviations_as_means():
    with pytest.raises(ValueError, match='mean has 3 channels, std 1'):
        MultiCropPreprocessor(mean=[1.0] * 3, std=[1.0])
