# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import numpy as np
import pytest
import torch
from mmpretrain.datasets import PackInputs
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as pillow

from ibot_mm.datasets.transforms.multi_crop import MultiCrop, resized_crop, sample_crop_box

RATIO = (3 / 4, 4 / 3)


def pillow_crop(image, box, size, flip=False):
    """Pillow's, with the order of axes of version 13, which older ones do not share."""
    top, left, height, width = box
    crop = pillow.crop(Image.fromarray(image), top, left, height, width)
    vertical_first = height > size and height - size > 2 * (width - size)
    crop = crop.resize((width, size) if vertical_first else (size, height), Image.BICUBIC)
    crop = crop.resize((size, size), Image.BICUBIC)
    return np.asarray(pillow.hflip(crop) if flip else crop).astype(int)


def assert_close(ours, reference):
    """Within one level; torch's weights have fewer bits, so that a rare value is two levels off."""
    assert ours.dtype == np.uint8 and ours.shape == reference.shape
    difference = np.abs(ours - reference)
    assert difference.max() <= 2
    assert (difference > 1).mean() < 2e-4
    assert (difference > 0).mean() < 0.02


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('size', [224, 96, 17])
@pytest.mark.parametrize(
    'box', [(0, 0, 90, 60), (3, 7, 80, 51), (20, 1, 31, 40), (11, 5, 2, 3), (5, 5, 1, 1)]
)
def test_values_equal_pillow(photographs, box, size, flip):
    for image in photographs:
        assert_close(resized_crop(image, box, size, flip), pillow_crop(image, box, size, flip))


def test_drawn_crops_equal_pillow(photographs):
    np.random.seed(0)
    two_off = values = 0
    for image in photographs:
        for scale, size in [((0.25, 1.0), 224), ((0.05, 0.25), 96)] * 20:
            box = sample_crop_box(*image.shape[:2], scale, RATIO)
            ours, reference = resized_crop(image, box, size, False), pillow_crop(image, box, size)
            assert_close(ours, reference)
            two_off += (np.abs(ours - reference) > 1).sum()
            values += ours.size
    assert two_off < 1e-5 * values


@pytest.mark.parametrize('scale', [(0.25, 1.0), (0.05, 0.25)])
@pytest.mark.parametrize('shape', [(375, 500), (600, 300)])
def test_boxes_have_the_distribution_of_torchvision(shape, scale):
    number = 4000
    np.random.seed(0)
    torch.manual_seed(0)
    image = torch.empty(3, *shape)
    ours = np.array([sample_crop_box(*shape, scale, RATIO) for _ in range(number)])
    theirs = [RandomResizedCrop.get_params(image, list(scale), list(RATIO)) for _ in range(number)]
    for mine, other in zip(_statistics(ours), _statistics(np.array(theirs))):
        quantiles = (
            np.quantile(mine, np.linspace(0, 1, 9)),
            np.quantile(other, np.linspace(0, 1, 9)),
        )
        assert np.abs(quantiles[0] - quantiles[1]).max() < 0.05 * np.ptp(other)
    assert ours.min() >= 0
    assert (ours[:, 0] + ours[:, 2]).max() == shape[0]
    assert (ours[:, 1] + ours[:, 3]).max() == shape[1]


def _statistics(boxes):
    top, left, height, width = boxes.T
    return height * width, np.log(width / height), top, left


@pytest.mark.parametrize('shape', [(10, 1000), (1000, 10), (1, 1), (2, 3)])
def test_fallback_is_the_central_crop_of_torchvision(shape):
    image = torch.empty(3, *shape)
    fallback = RandomResizedCrop.get_params(image, [2.0, 2.0], list(RATIO))
    assert sample_crop_box(*shape, (2.0, 2.0), RATIO) == tuple(fallback)


def test_crops_of_an_image(photographs):
    results = MultiCrop(3, 64, (0.3, 1.0), 4, 32, (0.05, 0.3))(dict(img=photographs[0]))
    assert [crop.shape for crop in results['img']] == [(64, 64, 3)] * 3 + [(32, 32, 3)] * 4
    assert results['num_global_crops'] == 3
    assert results['img_shape'] == (64, 64)
    assert all(crop.flags.c_contiguous for crop in results['img'])


def test_no_local_crops(photographs):
    results = MultiCrop(num_local_crops=0)(dict(img=photographs[0]))
    assert [crop.shape for crop in results['img']] == [(224, 224, 3)] * 2


@pytest.mark.parametrize('probability', [0.0, 0.5, 1.0])
def test_flip_probability(probability):
    np.random.seed(0)
    image = np.repeat(np.arange(100, dtype=np.uint8)[None, :, None], 100, 0).repeat(3, 2)
    crops = MultiCrop(400, 8, num_local_crops=0, flip_prob=probability)(dict(img=image))['img']
    flipped = np.mean([crop[0, 0, 0] > crop[0, -1, 0] for crop in crops])
    assert abs(flipped - probability) < 0.08


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(num_global_crops=0), 'num_global_crops must be at least 1, got 0'),
        (dict(num_local_crops=-1), 'num_local_crops must be 0 or more'),
        (dict(global_crop_size=0), 'global_crop_size must be positive, got 0'),
        (dict(local_crop_size=-96), 'local_crop_size must be positive'),
        (dict(global_crop_scale=(0.0, 1.0)), r'global_crop_scale must be \(low, high\)'),
        (dict(local_crop_scale=(0.3, 0.1)), r'local_crop_scale must be \(low, high\)'),
        (dict(global_crop_scale=(0.5, 1.1)), 'global_crop_scale must be'),
        (dict(ratio=(2, 1)), 'ratio must be'),
        (dict(flip_prob=1.5), 'flip_prob must be 0 to 1'),
    ],
)
def test_bad_arguments(values, message):
    with pytest.raises(ValueError, match=message):
        MultiCrop(**values)


def test_views_for_another_algorithm(photographs):
    """Packed by mmpretrain's transform, as its contrastive algorithms take them."""
    results = MultiCrop(2, 64, num_local_crops=0)(dict(img=photographs[0]))
    views = PackInputs()(results)['inputs']
    assert [view.shape for view in views] == [(3, 64, 64)] * 2
    assert all(view.dtype == torch.uint8 for view in views)


def test_areas_follow_the_scale(photographs):
    np.random.seed(1)
    areas = [math.prod(sample_crop_box(400, 400, (0.05, 0.25), RATIO)[2:]) for _ in range(3000)]
    shares = np.array(areas) / 400**2
    assert 0.048 < shares.min() and shares.max() < 0.252
    assert abs(shares.mean() - 0.15) < 0.005
