# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from ibot_mm.datasets.transforms import LoadImage, MultiCrop
from ibot_mm.datasets.transforms.multi_crop import sample_crop_box


@pytest.fixture
def broken(tmp_path, image_files):
    """A file of text, an empty one, half a JPEG and one that is not there."""
    half = Path(image_files[0]).read_bytes()
    contents = dict(text=b'not an image', empty=b'', half=half[: len(half) // 2])
    for name, content in contents.items():
        (tmp_path / f'{name}.jpg').write_bytes(content)
    return [str(tmp_path / f'{name}.jpg') for name in (*contents, 'missing')]


def test_pixels_equal_pillow(image_files):
    for path in image_files:
        results = LoadImage()(dict(img_path=path))
        with Image.open(path) as image:
            reference = np.asarray(image.convert('RGB')).astype(int)
        assert results['img'].dtype == np.uint8
        assert results['img_shape'] == reference.shape[:2]
        assert np.abs(results['img'][..., ::-1] - reference).max() <= 1


def test_orientation_is_ignored(photographs, tmp_path):
    image = Image.fromarray(photographs[0])
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / 'turned.jpg', exif=exif)
    results = LoadImage()(dict(img_path=str(tmp_path / 'turned.jpg')))
    assert results['img'].shape == photographs[0].shape


def test_errors_name_the_file_and_the_way_out(broken):
    for path in broken:
        with pytest.raises(RuntimeError, match=r"on_error='skip'") as error:
            LoadImage()(dict(img_path=path))
        assert path in str(error.value)


def test_skip_names_file_and_reason(broken, image_files, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    transform = LoadImage(on_error='skip')
    results = [dict(img_path=path) for path in broken]
    with caplog.at_level(logging.WARNING):
        assert [transform(result) for result in results] == [None] * 4
    logger.removeHandler(caplog.handler)
    for path, result in zip(broken, results):
        assert f'cannot read image {path} ({result["read_error"]})' in caplog.text
    good = transform(dict(img_path=image_files[0]))
    assert 'img' in good and 'read_error' not in good


def test_unknown_on_error():
    with pytest.raises(ValueError, match="on_error must be 'raise' or 'skip', got 'ignore'"):
        LoadImage(on_error='ignore')


@pytest.fixture(scope='module')
def large_jpeg(photographs, tmp_path_factory):
    """1280 x 1921 pixels of photographs side by side."""
    tile = np.tile(photographs[0], (3, 4, 1))[:1280, :1921]
    path = tmp_path_factory.mktemp('large') / 'large.jpg'
    Image.fromarray(tile).save(path, quality=95)
    return str(path)


@pytest.mark.parametrize(
    'min_size, shape',
    [
        (None, (1280, 1921)),
        (641, (1280, 1921)),
        (640, (640, 961)),
        (320, (320, 481)),
        (1, (160, 241)),
    ],
)
def test_large_jpegs_are_reduced_as_far_as_allowed(large_jpeg, min_size, shape):
    whole = LoadImage()(dict(img_path=large_jpeg))['img']
    results = LoadImage(min_decoded_size=min_size)(dict(img_path=large_jpeg))
    assert results['img'].shape[:2] == results['img_shape'] == shape
    if shape == (1280, 1921):
        np.testing.assert_array_equal(results['img'], whole)
    else:  # each pixel is about the mean of those that it stands for
        step = 1280 // shape[0]
        means = whole[:, : step * (1921 // step)].reshape(shape[0], step, -1, step, 3)
        means = means.mean((1, 3))
        assert np.abs(results['img'][:, : 1921 // step] - means).mean() < 3


def test_other_files_are_never_reduced(large_jpeg, tmp_path):
    with Image.open(large_jpeg) as image:
        image.save(tmp_path / 'large.png')
    results = LoadImage(min_decoded_size=1)(dict(img_path=str(tmp_path / 'large.png')))
    assert results['img_shape'] == (1280, 1921) and results['reduction'] == 1
    for options in (dict(min_decoded_size=0), dict(min_decoded_size=9, color_type='color')):
        with pytest.raises(ValueError, match='min_decoded_size'):
            LoadImage(**options)


@pytest.mark.parametrize('shape', [(518, 518), (518, 9000), (4000, 518)])
def test_no_crop_of_the_smallest_image_is_enlarged(shape):
    crops = MultiCrop()
    assert crops.min_image_size == 518
    np.random.seed(0)
    for size, scale in ((224, (0.25, 1.0)), (96, (0.05, 0.25))):
        boxes = [sample_crop_box(*shape, scale, crops.ratio) for _ in range(300)]
        assert min(min(box[2:]) for box in boxes) >= size - 1  # which rounding may take


def test_a_bound_that_would_enlarge_crops_is_an_error(large_jpeg):
    results = LoadImage(min_decoded_size=300)(dict(img_path=large_jpeg))
    with pytest.raises(ValueError, match=r'decoded at 1/4 and is now 481 x 320.*_size=518\)'):
        MultiCrop()(results)
    results = LoadImage(min_decoded_size=518)(dict(img_path=large_jpeg))
    assert len(MultiCrop()(results)['img']) == 12
