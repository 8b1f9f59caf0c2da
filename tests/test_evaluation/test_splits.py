# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images and labels that give no meaningful number are refused at once."""

import shutil

import pytest

from ibot_mm.evaluation import DataError, evaluation_view, folder_splits
from ibot_mm.evaluation.splits import ImagePaths, labels_of


def build(root):
    return folder_splits(root, evaluation_view(16))


@pytest.fixture
def root(splits_folder, tmp_path):
    return shutil.copytree(splits_folder, tmp_path / 'splits')


def test_splits(root):
    train, held_out = build(root)
    assert (len(train), len(held_out)) == (24, 12)
    assert labels_of(held_out).tolist() == sorted(4 * [0, 1, 2])
    paths = ImagePaths(train)
    assert paths[0].endswith('train/class_0/0.png') and len(set(paths)) == len(paths) == 24
    assert train[0]['inputs'].shape == (3, 16, 16)


def no_labels(root):
    for folder in list((root / 'train').iterdir()):
        for file in folder.iterdir():
            file.rename(root / 'train' / f'{folder.name}_{file.name}')
        folder.rmdir()


def one_class(root):
    for folder in root.glob('*/class_[12]'):
        shutil.rmtree(folder)


def empty(root):
    for file in root.glob('val/*/*'):
        file.unlink()


@pytest.mark.parametrize(
    'spoil, message',
    [
        (no_labels, r'the images of .*train have no labels: .*class folders'),
        (lambda root: shutil.rmtree(root / 'val'), r'there is no folder .*val'),
        (
            lambda root: (root / 'val/class_1').rename(root / 'val/class_9'),
            "classes of both splits differ: only train has 'class_1'; only val has 'class_9'",
        ),
        (lambda root: shutil.rmtree(root / 'val/class_2'), "only train has 'class_2'"),
        (
            lambda root: [file.unlink() for file in (root / 'val/class_1').iterdir()],
            "split val has no image of 1 of the 3 classes: 'class_1'",
        ),
        (one_class, "there is only one class, 'class_0'"),
        (empty, 'no image found'),
    ],
)
def test_bad_splits_are_refused(root, spoil, message):
    spoil(root)
    with pytest.raises(DataError, match=message):
        build(root)
