# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images are read for an evaluation as they are for the training."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from ibot_mm.datasets import LoadImage
from ibot_mm.datasets.transforms.image_errors import UnsupportedImageError
from ibot_mm.evaluation import evaluation_view

CONFIGS = Path(__file__).parents[2] / 'configs'


@pytest.fixture
def view():
    init_default_scope('mmpretrain')
    return Compose(evaluation_view(32, resize=40))


def test_one_rule_of_orientation(view, tmp_path):
    """As published, the orientation in the EXIF is ignored, by all that reads an image."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image.save(tmp_path / 'plain.jpg')
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / 'turned.jpg', exif=exif)
    plain, turned = (dict(img_path=str(tmp_path / f'{name}.jpg')) for name in ('plain', 'turned'))
    assert np.array_equal(LoadImage()(dict(plain))['img'], LoadImage()(dict(turned))['img'])
    assert np.array_equal(view(dict(plain))['inputs'], view(dict(turned))['inputs'])


def test_nothing_is_lost_without_a_word(view, tmp_path):
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(tmp_path / 'deep.png')
    with pytest.raises(UnsupportedImageError, match='in_range'):
        view(dict(img_path=str(tmp_path / 'deep.png')))


def test_no_config_reads_in_another_way():
    """But those of detection and segmentation, whose published results are with mm's loaders."""
    files = [*CONFIGS.glob('_base_/datasets/*.py'), *CONFIGS.glob('[pca]*/*.py')]
    files = [path for path in files if not path.name.startswith(('ade20k', 'coco'))]
    assert len(files) > 30
    assert [path.name for path in files if 'LoadImageFromFile' in path.read_text()] == []
