# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Augmentation of any number of channels, and of values between the 256 levels."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from torchvision.transforms import functional as F

from ibot_mm.functional import augmentation as A

CHANNELS = [1, 2, 4, 5, 6, 16]
PLANE = {  # of Pillow, on one channel
    A.BRIGHTNESS: F.adjust_brightness,
    A.CONTRAST: F.adjust_contrast,
    A.BLUR_RADIUS: lambda image, radius: image.filter(ImageFilter.GaussianBlur(radius)),
}


@pytest.fixture(scope='module')
def planes():
    """Sixteen channels of photographs, (16, 60, 70)."""
    pixels = np.dstack([skimage.data.astronaut(), skimage.data.coffee()[:400, :512].repeat(2, 0)[
        :512]])[100:160, 150:220]  # fmt: skip
    shifted = [np.roll(pixels, step, axis=0) for step in range(3)]
    return np.ascontiguousarray(np.dstack(shifted)[..., :16].transpose(2, 0, 1))


def row(**values):
    drawn = A.NEUTRAL.copy()
    for name, value in values.items():
        drawn[getattr(A, name)] = value
        if name in ('BRIGHTNESS', 'CONTRAST', 'SATURATION', 'HUE'):
            drawn[A.ORDER] = [getattr(A, name), -1, -1, -1]
    return drawn[None]


@pytest.mark.parametrize('channels', CHANNELS)
@pytest.mark.parametrize(
    ('column', 'value'), [(A.BRIGHTNESS, 1.3), (A.CONTRAST, 0.7), (A.BLUR_RADIUS, 1.1)]
)
def test_each_channel_is_an_image_of_its_own(planes, channels, column, value):
    """Of Pillow's mode L, whether in a batch or alone."""
    expected = [PLANE[column](Image.fromarray(plane), value) for plane in planes[:channels]]
    expected = np.stack([np.asarray(image) for image in expected]).astype(int)
    image = planes[:channels].copy()
    A.IMAGE_OPERATIONS[column](image, value)
    batch = torch.from_numpy(planes[None, :channels]).float()
    batch = A.BATCH_OPERATIONS[column](batch, torch.tensor([value]))[0].numpy()
    assert np.abs(image - expected).max() <= 1
    assert np.abs(batch - expected).max() <= 1


@pytest.mark.parametrize('channels', [1, 5, 6])
def test_both_chains_are_equal(planes, channels):
    policy = A.AugmentationPolicy(saturation=0.0, hue=0.0, gray_prob=0.0, blur_prob=0.0).as_row()
    parameters = A.sample_parameters(np.stack([policy] * 30), np.random.default_rng(0))
    images = torch.from_numpy(planes[None, :channels]).repeat(30, 1, 1, 1)
    batch = A.augment_batch(images.float(), torch.from_numpy(parameters))
    A.apply_augmentation(images, torch.from_numpy(parameters))
    assert torch.equal(images.float(), batch)
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize(
    'values', [dict(SATURATION=1.2), dict(HUE=0.1), dict(GRAY=1), dict(SOLARIZE=1)]
)
@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32])
def test_color_of_other_channels_is_refused(values, dtype):
    images = torch.zeros(1, 6, 8, 8, dtype=dtype)
    with pytest.raises(ValueError, match='mean nothing for images of 6 channels: set hue'):
        A.apply_augmentation(images, torch.from_numpy(row(**values)))
    A.apply_augmentation(images, torch.from_numpy(row(BRIGHTNESS=1.2, BLUR_RADIUS=1)))
    A.apply_augmentation(images[:, :3].contiguous(), torch.from_numpy(row(**values)))


def test_policies_name_their_color_operations():
    assert A.GLOBAL_REST.color_operations == ['saturation', 'hue', 'gray_prob', 'solarize_prob']
    assert A.AugmentationPolicy(jitter_prob=0.0).color_operations == ['gray_prob']
    off = dict(saturation=0.0, hue=0.0, gray_prob=0.0)
    assert A.AugmentationPolicy(**off).color_operations == []


FLOAT = {  # of torchvision, on floats of 0 to 1
    A.BRIGHTNESS: (F.adjust_brightness, 1.3),
    A.CONTRAST: (F.adjust_contrast, 0.63),
    A.SATURATION: (F.adjust_saturation, 1.4),
    A.HUE: (F.adjust_hue, -0.13),
    A.GRAY: (lambda image, _: F.rgb_to_grayscale(image, 3), 1.0),
    A.SOLARIZE: (lambda image, _: F.solarize(image, 127.5 / 255), 1.0),
}


@pytest.mark.parametrize('column', FLOAT)
def test_floats_equal_torchvision(planes, column):
    reference, value = FLOAT[column]
    images = torch.from_numpy(planes[None, :3]).double() + torch.rand(1, 3, 60, 70).double() * 0.9
    result = A.FLOAT_OPERATIONS[column](images, torch.tensor([value]))
    # Its weights of the luma have four digits.
    torch.testing.assert_close(result / 255, reference(images / 255, value), atol=2e-4, rtol=0)
    assert result.min() >= 0 and result.max() <= 255


@pytest.mark.parametrize('radius', [0.1, 0.7, 2.0])
@pytest.mark.parametrize('channels', [1, 6])
def test_blur_of_floats_is_gaussian(planes, radius, channels):
    images = torch.from_numpy(planes[None, :channels]).double().repeat(2, 1, 1, 1)
    result = A.FLOAT_OPERATIONS[A.BLUR_RADIUS](images, torch.tensor([radius, 1.3]))
    for image, sigma in zip(result, (radius, 1.3)):
        reach = max(round(3 * max(radius, 1.3)), 1)
        options = dict(mode='nearest', axes=(1, 2), radius=reach)
        expected = gaussian_filter(planes[:channels].astype(float), sigma, **options)
        np.testing.assert_allclose(image, expected, atol=1e-4)


def test_floats_keep_their_steps(planes):
    """Nothing is rounded, neither in the whole chain; it is near that of 8 bits."""
    policy = A.AugmentationPolicy(solarize_prob=0.3).as_row()
    parameters = A.sample_parameters(np.stack([policy] * 40), np.random.default_rng(1))
    images = torch.from_numpy(planes[None, :3]).repeat(40, 1, 1, 1)
    floats = images.float()
    A.apply_augmentation(floats, torch.from_numpy(parameters))
    A.apply_augmentation(images, torch.from_numpy(parameters))
    assert (floats != floats.round()).float().mean() > 0.5
    assert (floats - images).abs().mean() < 1.5  # a hue of 8 bits has 255 steps
