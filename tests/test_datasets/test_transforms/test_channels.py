# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Crops and other transforms of any number of channels, uint8 or float32."""

import numpy as np
import pytest
import torch

from ibot_mm.datasets.transforms import (
    GaussianNoise,
    MultiCrop,
    NormalizeChannels,
    PackMultiCrop,
    PhotometricAugmentation,
    ResizeShortEdge,
)
from ibot_mm.datasets.transforms.multi_crop import resized_crop
from ibot_mm.functional.augmentation import apply_augmentation

CHANNELS = [1, 2, 6, 16]
NO_COLOR = dict(saturation=0.0, hue=0.0, gray_prob=0.0, solarize_prob=0.0)


@pytest.fixture
def image(photographs):
    """(90, 100, 16), uint8."""
    pixels = photographs[2][100:190, 100:200]
    return np.dstack([np.roll(pixels, step, axis=0) for step in range(6)])[..., :16]


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('size', [40, 120])
def test_channels_are_cropped_apart(image, channels, size, flip):
    box = (3, 7, 80, 51)
    crop = resized_crop(image[..., :channels], box, size, flip)
    assert crop.shape == (size, size, channels) and crop.dtype == np.uint8
    alone = [resized_crop(image[..., i : i + 1], box, size, flip) for i in range(channels)]
    assert np.array_equal(crop, np.dstack(alone))
    floats = resized_crop(image[..., :channels].astype('f4'), box, size, flip)
    assert floats.dtype == np.float32 and floats.min() >= 0 and floats.max() <= 255
    difference = np.abs(floats - crop)  # 8 bits are clipped and rounded after each axis
    assert difference.mean() < 0.5 and difference.max() < 8 and (floats != floats.round()).any()


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize('apply', [False, True])
def test_pipeline(image, channels, dtype, apply):
    """Whether augmented here or by the data preprocessor."""
    np.random.seed(0)
    augment = PhotometricAugmentation(NO_COLOR, NO_COLOR, NO_COLOR, apply=apply)
    results = MultiCrop(2, 32, num_local_crops=3, local_crop_size=16)(
        dict(img=image[..., :channels].astype(dtype))
    )
    before = [crop.copy() for crop in results['img']]
    inputs = PackMultiCrop()(augment(results))['inputs']
    assert inputs['global_crops'].shape == (2, channels, 32, 32)
    assert inputs['local_crops'].shape == (3, channels, 16, 16)
    assert inputs['global_crops'].dtype == getattr(torch, dtype)
    np.random.seed(0)
    MultiCrop(2, 32, num_local_crops=3, local_crop_size=16)(dict(img=image))  # the same numbers
    unapplied = PhotometricAugmentation(NO_COLOR, NO_COLOR, NO_COLOR)
    drawn = unapplied(dict(img=before, num_global_crops=2))['augmentation']
    expected = np.ascontiguousarray(np.stack(before[:2]).transpose(0, 3, 1, 2))
    if apply:
        expected = torch.from_numpy(expected)
        apply_augmentation(expected, torch.from_numpy(drawn[:2]))
        assert torch.equal(inputs['global_crops'], expected)
    else:
        assert np.array_equal(inputs['global_crops'], expected)
        assert np.array_equal(inputs['augmentation'], drawn)


def test_colors_of_other_channels_are_refused(image):
    crops = dict(img=[image[..., :6]] * 2)
    with pytest.raises(ValueError, match='mean nothing for images of 6 channels.*solarize_prob'):
        PhotometricAugmentation()(crops)
    only_solarize = dict(NO_COLOR, solarize_prob=0.1)
    with pytest.raises(ValueError, match='solarize_prob'):
        PhotometricAugmentation(NO_COLOR, only_solarize, NO_COLOR)(crops)


@pytest.mark.parametrize(
    'second', [np.zeros((8, 8, 5), 'u1'), np.zeros((8, 8, 6), 'f4'), np.zeros((8, 9, 6), 'u1')]
)
def test_crops_that_are_not_alike(second):
    with pytest.raises(ValueError, match=r'uint8 or float32 crops \(H, W, C\)'):
        PackMultiCrop()(dict(img=[np.zeros((8, 8, 6), 'u1'), second]))


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
@pytest.mark.parametrize('channels', [1, 6])
def test_resize_short_edge(image, channels, dtype):
    pixels = image[..., :channels].astype(dtype)
    results = ResizeShortEdge(30)(dict(img=pixels))
    assert results['img'].shape == (30, 33, channels) and results['img_shape'] == (30, 33)
    assert results['img'].dtype == dtype
    tall = ResizeShortEdge(180)(dict(img=pixels.transpose(1, 0, 2)))['img']
    assert tall.shape == (200, 180, channels)
    flat = ResizeShortEdge(30)(dict(img=np.full((90, 100, channels), 7, dtype)))['img']
    assert np.allclose(flat, 7)


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
def test_noise_has_a_deviation_for_each_channel(dtype):
    np.random.seed(0)
    images = [np.full((64, 64, 4), 128, dtype) for _ in range(300)]
    noisy = GaussianNoise(std=(2.0, 6.0), prob=0.7)(dict(img=images))['img']
    assert all(crop.dtype == dtype for crop in noisy)
    deviations = np.stack([crop.std(axis=(0, 1), dtype=float) for crop in noisy])
    touched = deviations[:, 0] > 0
    assert 0.6 < touched.mean() < 0.8
    deviations = deviations[touched]
    assert 1.8 < deviations.min() < 2.3 and 5.7 < deviations.max() < 6.3
    assert np.abs(np.corrcoef(deviations.T) - np.eye(4)).max() < 0.25
    assert np.abs(np.mean(noisy) - 128) < 0.1
    (alone,) = {crop.shape for crop in [GaussianNoise(prob=1.0)(dict(img=images[0]))['img']]}
    assert alone == (64, 64, 4)


def test_normalize_channels(image):
    mean, std = [10.0, 20.0, 30.0, 40.0], [1.0, 2.0, 3.0, 4.0]
    result = NormalizeChannels(mean, std)(dict(img=image[..., :4]))['img']
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, (image[..., :4] - np.array(mean)) / std, rtol=1e-6)
    gray = NormalizeChannels([1.0], [2.0])(dict(img=image[..., 0]))['img']  # as OpenCV leaves it
    assert gray.shape == (90, 100, 1)
    with pytest.raises(ValueError, match='an image has 6 channels, mean and std 4'):
        NormalizeChannels(mean, std)(dict(img=image[..., :6]))


@pytest.mark.parametrize(
    ('transform', 'options', 'expected'),
    [
        (NormalizeChannels, dict(mean=[0.0, 1.0], std=[1.0]), 'mean has 2 channels, std 1'),
        (NormalizeChannels, dict(mean=[0.0], std=[0.0]), r'std must each be a number in \(0, inf'),
        (GaussianNoise, dict(std=(3.0, 1.0)), r'std must be \(low, high\)'),
        (GaussianNoise, dict(prob=2), r'prob must be a number in \[0, 1\]'),
        (ResizeShortEdge, dict(scale=0), 'scale must be a whole number'),
    ],
)
def test_options(transform, options, expected):
    with pytest.raises(ValueError, match=expected):
        transform(**options)
