# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging

import numpy as np
import pytest
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmpretrain.datasets import build_dataset
from PIL import Image

from ibot_mm.datasets import ImageFolder
from ibot_mm.datasets.transforms import LoadImage


@pytest.fixture
def folder(tmp_path):
    """train/ with two class folders, one of them nested, and a file that is not an image."""
    for i, name in enumerate(['n01/a.JPEG', 'n01/b.JPEG', 'n02/deep/c.png', 'n02/notes.txt']):
        path = tmp_path / 'train' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == '.txt':
            path.write_text('not an image')
        else:
            Image.fromarray(np.full((8, 8, 3), i, np.uint8)).save(path)
    return tmp_path


def names(dataset):
    return [dataset.get_data_info(i)['img_path'].rsplit('/', 1)[1] for i in range(len(dataset))]


def test_unlabeled_and_nested(folder):
    dataset = ImageFolder(str(folder), 'train')
    assert names(dataset) == ['a.JPEG', 'b.JPEG', 'c.png']
    assert 'gt_label' not in dataset.get_data_info(0)


def test_labels_from_class_folders(folder):
    dataset = ImageFolder(str(folder), 'train', with_label=True)
    assert names(dataset) == ['a.JPEG', 'b.JPEG', 'c.png']
    assert list(dataset.get_gt_labels()) == [0, 0, 1]
    assert dataset.metainfo['classes'] == ('n01', 'n02')


def test_own_images_in_one_folder(folder):
    assert names(ImageFolder(str(folder / 'train' / 'n01'))) == ['a.JPEG', 'b.JPEG']


def test_annotation_file(folder):
    (folder / 'labels.txt').write_text('n02/deep/c.png 3\nn01/a.JPEG 1\n')
    dataset = ImageFolder(str(folder), 'train', 'labels.txt', with_label=True)
    assert names(dataset) == ['c.png', 'a.JPEG']
    assert list(dataset.get_gt_labels()) == [3, 1]
    (folder / 'paths.txt').write_text('n02/deep/c.png\nn01/a.JPEG\n')
    assert names(ImageFolder(str(folder), 'train', 'paths.txt')) == ['c.png', 'a.JPEG']


def test_built_by_name(folder):
    init_default_scope('mmpretrain')
    pipeline = [dict(type='LoadImageFromFile')]
    config = dict(type='ibot_mm.ImageFolder', data_root=str(folder), pipeline=pipeline)
    assert build_dataset(config)[0]['img'].shape == (8, 8, 3)


def message(error, *args, **kwargs):
    with pytest.raises(error) as info:
        ImageFolder(*args, **kwargs)
    return str(info.value)


def test_no_path():
    assert 'data_root is empty' in message(ValueError)


@pytest.mark.parametrize(
    ('root', 'prefix'), [('absent', ''), ('.', 'val'), ('train/n01/a.JPEG', '')]
)
def test_missing_folder(folder, root, prefix):
    text = message(FileNotFoundError, str(folder / root), prefix)
    assert str(folder / root / prefix).rstrip('/.') in text
    assert 'train/n01440764/n01440764_18.JPEG' in text and 'Own images' in text


@pytest.mark.parametrize('with_label', [False, True])
def test_no_image(tmp_path, with_label):
    (tmp_path / 'notes.txt').write_text('')
    text = message(ValueError, str(tmp_path), with_label=with_label)
    assert 'no image found' in text and str(tmp_path) in text and '.jpeg' in text
    assert 'ImageNet' in text
    assert ('class folders' in text) == with_label


def test_missing_annotation_file(folder):
    text = message(FileNotFoundError, str(folder), 'train', 'absent.txt')
    assert str(folder / 'absent.txt') in text


@pytest.mark.parametrize(
    ('content', 'with_label', 'expected'),
    [
        ('', False, 'is empty'),
        ('n01/a.JPEG 0\nn01/b.JPEG\n', True, "line 2 of .* is 'n01/b.JPEG', not a path, a blank"),
        ('n01/a.JPEG cat\n', True, 'line 1 of'),
        ('n01/a.JPEG\n\nn01/b.JPEG\n', False, "line 2 of .* is '', not a path"),
    ],
)
def test_bad_annotation_file(folder, content, with_label, expected):
    (folder / 'list.txt').write_text(content)
    with pytest.raises(ValueError, match=expected):
        ImageFolder(str(folder), 'train', 'list.txt', with_label=with_label)


def test_listed_image_that_is_not_there(folder):
    (folder / 'list.txt').write_text('n01/a.JPEG\nn01/gone.JPEG\n')
    dataset = ImageFolder(str(folder), 'train', 'list.txt', pipeline=[LoadImage()])
    assert dataset[0]['img'].shape == (8, 8, 3)
    with pytest.raises(RuntimeError, match=r'cannot read image .*n01/gone\.JPEG.*FileNotFound'):
        dataset[1]


@pytest.fixture
def log(caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


def test_one_line_says_what_was_found(folder, log):
    (folder / 'train/n01/.thumbnails').mkdir()
    (folder / 'train/n01/.thumbnails/a.JPEG').write_bytes(b'')
    (folder / 'train/loose.png').write_bytes(b'')
    ImageFolder(str(folder), 'train', with_label=True)
    counts = '3 images, 2 other files passed over (1 .txt, 1 in no class folder), 1 hidden folder'
    assert counts in log.text


def test_hidden_folder_is_not_a_class(folder):
    (folder / 'train/.ipynb_checkpoints').mkdir()
    dataset = ImageFolder(str(folder), 'train', with_label=True)
    assert dataset.metainfo['classes'] == ('n01', 'n02')


def test_empty_class_folder_is_named(folder, log):
    (folder / 'train/n03').mkdir()
    dataset = ImageFolder(str(folder), 'train', with_label=True)
    assert list(dataset.get_gt_labels()) == [0, 0, 1]
    assert 'no image in the class folders n03' in log.text


def test_number_of_classes(folder):
    text = message(
        ValueError, str(folder), 'train', with_label=True, metainfo=dict(classes=('a', 'b', 'c'))
    )
    assert 'has 2 class folders, metainfo 3 classes' in text


def test_empty_image_of_a_validation_is_named(folder):
    (folder / 'train/n02/deep/d.png').write_bytes(b'')
    dataset = ImageFolder(str(folder), 'train', with_label=True, pipeline=[LoadImage()])
    with pytest.raises(RuntimeError, match=r'n02/deep/d\.png .*the file is empty'):
        dataset[3]
