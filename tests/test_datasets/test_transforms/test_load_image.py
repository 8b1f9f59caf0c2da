# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from ibot_mm.datasets.transforms import LoadImage


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
