# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
from mmpretrain.datasets import PackInputs

from ibot_mm.datasets.presentation import Presentation, set_presentation
from ibot_mm.datasets.transforms import MaskGenerator


def crops(*sizes, num_global_crops=2):
    images = [np.zeros((size, size, 3), dtype=np.uint8) for size in sizes]
    return dict(img=images, num_global_crops=num_global_crops)


def test_masks_for_global_crops_only():
    masks = MaskGenerator()(crops(224, 224, 96, 96))['masks']
    assert masks.shape == (2, 14, 14) and masks.dtype == bool


@pytest.mark.parametrize(('patch_size', 'side'), [(8, 28), (14, 16), (32, 7)])
def test_grid_follows_the_patch_size(patch_size, side):
    assert MaskGenerator(patch_size)(crops(224, 224))['masks'].shape == (2, side, side)


@pytest.mark.parametrize('shape', ['block', 'random'])
def test_half_of_the_views_are_masked_10_to_50_percent(shape):
    np.random.seed(0)
    transform = MaskGenerator(shape=shape)
    share = np.concatenate([transform(crops(224, 224))['masks'].mean((1, 2)) for _ in range(1000)])
    assert abs((share > 0).mean() - 0.5) < 0.04
    assert share.max() <= 0.5 and share[share > 0].min() > 0.05
    assert abs(share[share > 0].mean() - 0.29) < 0.02
    assert abs(share[share > 0].std() - 0.115) < 0.02


def test_views_are_masked_independently():
    np.random.seed(0)
    transform = MaskGenerator()
    masked = np.array([transform(crops(64, 64))['masks'].any((1, 2)) for _ in range(2000)])
    assert abs(np.corrcoef(masked.T)[0, 1]) < 0.08


def test_random_shape_with_the_published_ratio():
    np.random.seed(0)
    transform = MaskGenerator(ratio=[(0.0, 0.0), (0.7, 0.05)], shape='random')
    share = np.concatenate([transform(crops(224, 224))['masks'].mean((1, 2)) for _ in range(200)])
    assert set(share[share < 0.6]) == {0.0}
    assert 0.64 <= share[share > 0].min() and share.max() <= 0.75


@pytest.mark.parametrize(('epoch', 'masked'), [(0, False), (49, False), (50, True), (51, True)])
@pytest.mark.parametrize('fraction', [0.0, 0.99])
def test_start_epoch(epoch, masked, fraction):
    transform = MaskGenerator(ratio=[(0.5, 0.0)], start_epoch=50)
    set_presentation(Presentation(0, epoch, 0, epoch + fraction))
    masks = transform(crops(224, 224))['masks']
    set_presentation(None)
    assert masks.shape == (2, 14, 14)
    assert masks.any() == masked


def test_start_epoch_needs_the_epoch():
    with pytest.raises(ValueError, match=r'start_epoch=5.*SeededBatchSampler'):
        MaskGenerator(start_epoch=5)(crops(224, 224))


def test_single_image_for_another_algorithm():
    """A mask for a plain image, as masked image modeling has it, through stock packing."""
    results = MaskGenerator(ratio=[(0.4, 0.0)])(dict(img=np.zeros((64, 64, 3), dtype=np.uint8)))
    packed = PackInputs(algorithm_keys=('masks',))(results)
    assert packed['inputs'].shape == (3, 64, 64)
    assert packed['data_samples'].masks.shape == (1, 4, 4)


def test_crop_that_is_not_a_multiple_of_the_patch():
    with pytest.raises(ValueError, match=r'225 x 225 pixels .* patches of 16'):
        MaskGenerator()(crops(225, 225))


@pytest.mark.parametrize(
    ('ratio', 'message'),
    [
        ([(0.3, 0.4)], r'pair \(mean 0.3, half-width 0.4\) is out of range'),
        ([(0.9, 0.2)], r'pair \(mean 0.9, half-width 0.2\) is out of range'),
        ([(0.0, 0.0), (-0.1, 0.0)], 'out of range'),
        ([(0.3, -0.1)], 'out of range'),
        ([0, 0.3], r'list of \(mean, half_width\) pairs'),
        ([[0, 0.3], [0, 0.2, 0.1]], 'two lists, one of means and one of half-widths'),
        ([(0.3,)], r'list of \(mean, half_width\) pairs'),
        ([('a', 'b')], r'list of \(mean, half_width\) pairs'),
        ([], r'list of \(mean, half_width\) pairs'),
        (0.3, r'list of \(mean, half_width\) pairs'),
        ('block', r'list of \(mean, half_width\) pairs'),
    ],
)
def test_bad_ratio(ratio, message):
    with pytest.raises(ValueError, match=message):
        MaskGenerator(ratio=ratio)


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(shape='rand'), r"shape must be one of \['block', 'random'\], got 'rand'"),
        (dict(patch_size=0), 'patch_size must be at least 1'),
        (dict(start_epoch=-1), 'start_epoch must be 0 or more'),
    ],
)
def test_bad_arguments(values, message):
    with pytest.raises(ValueError, match=message):
        MaskGenerator(**values)
