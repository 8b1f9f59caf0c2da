# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch
from mmpretrain.datasets import PackInputs
from PIL import Image
from torchvision.transforms import functional as pillow

from ibot_mm.datasets.transforms import MultiCrop, PhotometricAugmentation
from ibot_mm.functional.augmentation import (
    BLUR_RADIUS,
    BRIGHTNESS,
    GRAY,
    NUM_PARAMETERS,
    SOLARIZE,
    apply_augmentation,
)

NOTHING = dict(jitter_prob=0.0, gray_prob=0.0, blur_prob=0.0)


def cropped(photographs, *numbers):
    return MultiCrop(numbers[0], 32, num_local_crops=numbers[1], local_crop_size=16)(
        dict(img=photographs[0])
    )


def test_one_row_for_each_crop(photographs):
    parameters = PhotometricAugmentation()(cropped(photographs, 2, 5))['augmentation']
    assert parameters.shape == (7, NUM_PARAMETERS) and parameters.dtype == np.float32


def test_published_policies_of_the_views(photographs):
    np.random.seed(0)
    transform = PhotometricAugmentation()
    results = cropped(photographs, 3, 2)
    drawn = np.stack([transform(dict(results))['augmentation'] for _ in range(1500)])
    blurred, solarized = (drawn[..., BLUR_RADIUS] > 0).mean(0), drawn[..., SOLARIZE].mean(0)
    assert np.abs(blurred - [1.0, 0.1, 0.1, 0.5, 0.5]).max() < 0.05
    assert np.abs(solarized - [0.0, 0.2, 0.2, 0.0, 0.0]).max() < 0.05


def test_changes_of_a_policy(photographs):
    transform = PhotometricAugmentation(local=dict(gray_prob=1.0), global_first=NOTHING)
    drawn = transform(cropped(photographs, 2, 3))['augmentation']
    assert (drawn[2:, GRAY] == 1).all()
    assert drawn[0, GRAY] == 0 and drawn[0, BLUR_RADIUS] == 0


def test_views(photographs):
    transform = PhotometricAugmentation(views=[NOTHING, dict(NOTHING, gray_prob=1.0)])
    drawn = transform(cropped(photographs, 2, 0))['augmentation']
    assert drawn[:, GRAY].tolist() == [0, 1]
    with pytest.raises(ValueError, match='2 views, but there are 3 crops'):
        transform(cropped(photographs, 2, 1))


def test_crops_of_a_foreign_transform_are_global(photographs):
    """Without ``num_global_crops``, as after mmpretrain's ``MultiView``."""
    drawn = PhotometricAugmentation()(dict(img=[photographs[0], photographs[1]]))['augmentation']
    assert drawn.shape == (2, NUM_PARAMETERS)
    assert drawn[0, BLUR_RADIUS] > 0


def test_apply_equals_the_preprocessor(photographs):
    """Applied in the worker, crops have the values that the parameters give later."""
    results = cropped(photographs, 2, 4)
    np.random.seed(5)
    parameters = PhotometricAugmentation()(dict(results))['augmentation']
    np.random.seed(5)
    applied = PhotometricAugmentation(apply=True)(dict(results))
    assert 'augmentation' not in applied
    for before, after, drawn in zip(results['img'], applied['img'], parameters):
        rgb = torch.from_numpy(before[..., ::-1].copy()).permute(2, 0, 1)[None].contiguous()
        apply_augmentation(rgb, torch.from_numpy(drawn[None]))
        assert after.dtype == np.uint8 and after.shape == before.shape
        assert (after[..., ::-1] == rgb[0].permute(1, 2, 0).numpy()).all()


def test_apply_to_a_single_image(photographs):
    """As a color jitter in somebody else's pipeline; mm's images are BGR."""
    np.random.seed(0)
    image = np.ascontiguousarray(photographs[0][..., ::-1])
    settings = dict(NOTHING, jitter_prob=1.0, contrast=0.0, saturation=0.0, hue=0.0)
    results = PhotometricAugmentation(global_first=settings, apply=True)(dict(img=image))
    np.random.seed(0)
    factor = PhotometricAugmentation(global_first=settings)(dict(img=image))['augmentation'][
        0, BRIGHTNESS
    ]
    reference = pillow.adjust_brightness(Image.fromarray(photographs[0]), float(factor))
    difference = results['img'][..., ::-1].astype(int) - np.asarray(reference)
    assert factor != 1 and np.abs(difference).max() <= 1
    assert PackInputs()(results)['inputs'].shape == (3, *image.shape[:2])


def test_apply_knows_bgr(photographs):
    """Pure blue, in BGR order, has the gray level of blue."""
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    image[..., 0] = 255
    gray = PhotometricAugmentation(global_first=dict(NOTHING, gray_prob=1.0), apply=True)
    assert (gray(dict(img=image))['img'] == 29).all()


@pytest.mark.parametrize(
    ('values', 'error', 'message'),
    [
        (dict(views=[{}], local={}), ValueError, 'either views or'),
        (dict(local=dict(hue=0.7)), ValueError, 'hue must be between 0 and 0.5'),
        (dict(local=dict(sharpness=0.7)), TypeError, 'sharpness'),
    ],
)
def test_bad_arguments(values, error, message):
    with pytest.raises(error, match=message):
        PhotometricAugmentation(**values)
