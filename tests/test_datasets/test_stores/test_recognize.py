# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Places are recognized by what is there, and by their names where nobody can look."""

import shutil

import pytest
from packed_images import KINDS, write_tar

from ibot_mm.datasets.packing import pack_images
from ibot_mm.datasets.stores import describe_images, describe_split


@pytest.mark.parametrize('kind', KINDS)
def test_folders_and_files(stored, kind):
    dataset_class, arguments = stored(kind)
    root = arguments['data_root']
    for place in (root, f'{root}/{arguments.get("data_prefix", "")}'):
        found = describe_images(place)
        assert found == dict(type=f'ibot_mm.{dataset_class.__name__}', data_root=place)


@pytest.mark.parametrize('place, name', [
    ('https://host/imagenet/train', 'TarImages'),
    ('https://host/train-{000..146}.tar', 'TarImages'),
    ('s3://bucket/train-*.parquet', 'ParquetImages'),
    ('hf://datasets/x/data/train.PARQUET', 'ParquetImages'),
    ('gs://bucket/train.zip', 'ZipImages'),
    ('pipe:ssh host cat train-{000..146}.tar', 'TarImages'),
    ('pipe:cat train', 'TarImages'),
    ('none/train-{000..146}.tar', 'TarImages'),  # the data set says what is missing
])  # fmt: skip
def test_names(place, name):
    assert describe_images(place) == dict(type=f'ibot_mm.{name}', data_root=place)


def test_images_win_over_archives(image_tree, tmp_path):
    root = shutil.copytree(image_tree, tmp_path / 'train')
    write_tar(image_tree, root / 'shards')
    assert describe_images(str(root))['type'] == 'ibot_mm.ImageFolder'
    pack_images(str(image_tree), tmp_path / 'packed', num_workers=1)
    shutil.copy(root / 'apple/apple_0.JPEG', tmp_path / 'packed')
    assert describe_images(str(tmp_path / 'packed'))['type'] == 'ibot_mm.TarImages'  # it has a list


def test_shards_in_folders_of_a_folder(image_tree, tmp_path):
    write_tar(image_tree, tmp_path / 'all/a/b')
    assert describe_images(str(tmp_path / 'all'))['type'] == 'ibot_mm.TarImages'


def test_images_of_other_endings(tmp_path):
    (tmp_path / 'scene.npy').touch()
    (tmp_path / 'scenes.zip').touch()
    assert describe_images(str(tmp_path))['type'] == 'ibot_mm.ZipImages'
    assert describe_images(str(tmp_path), ['.npy'])['type'] == 'ibot_mm.ImageFolder'


@pytest.mark.parametrize('name', ['train.tar.gz', 'train.txt', 'train'])
def test_other_files(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f'{name} is neither a folder nor a store: give a folder'):
        describe_images(str(tmp_path / name))


def test_nothing(tmp_path):
    for name in ('none', 'none.tar', 'none-*.tar'):
        with pytest.raises(FileNotFoundError, match='there is no folder .*, and no store: give'):
            describe_images(str(tmp_path / name))
    assert describe_split(str(tmp_path), 'train') is None
    assert describe_images(str(tmp_path))['type'] == 'ibot_mm.ImageFolder'  # which says it is empty


@pytest.mark.parametrize('name, found', [
    ('train.tar', 'train.tar'),
    ('train-00000-of-00002.parquet', 'train-*.parquet'),
    ('train-000.tar', 'train-*.tar'),
    ('training.tar', None),
    ('val.tar', None),
])  # fmt: skip
def test_splits(tmp_path, name, found):
    (tmp_path / name).touch()
    split = describe_split(str(tmp_path), 'train')
    if found is None:
        assert split is None
    else:
        assert (split['data_root'], split['data_prefix']) == (str(tmp_path), found)


def test_a_split_elsewhere():
    split = describe_split('https://host/imagenet/', 'val')
    assert split == dict(
        type='ibot_mm.TarImages', data_root='https://host/imagenet/', data_prefix='val'
    )
