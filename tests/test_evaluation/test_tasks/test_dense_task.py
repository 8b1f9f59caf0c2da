# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Segmentation of frozen patch tokens, on halves of photographs beside each other."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ibot_mm.evaluation import DataError, Options, best_of
from ibot_mm.evaluation.tasks.dense import check_dense, dense

CLASSES = ('brick', 'chelsea', 'grass')
SETTINGS = dict(image_size=96, ks=(1, 5), learning_rates=(0.1, 1.0), epochs=20)


@pytest.fixture(scope='session')
def scenes(tmp_path_factory, photographs):
    """Two of three photographs side by side, of unequal sizes; the border is unlabeled."""
    root = tmp_path_factory.mktemp('scenes')
    for split, number, start in (('training', 9, 0), ('validation', 3, 60)):
        folders = [root / kind / split for kind in ('images', 'annotations')]
        for folder in folders:
            folder.mkdir(parents=True)
        for index in range(number):
            size = 96 + 8 * (index % 3), 128 + 16 * (index % 2)
            cut = 32 + 16 * (index % 4)
            pair = index % 3, (index + 1) % 3
            image, mask = np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8)
            for label, place in zip(pair, (slice(0, cut), slice(cut, None))):
                piece = photographs[CLASSES[label]][
                    start : start + size[0], start : start + size[1]
                ]
                image[:, place], mask[:, place] = piece[:, place], label + 1
            mask[:, cut - 2 : cut + 2] = 0
            Image.fromarray(image).save(folders[0] / f'{index}.jpg', quality=95)
            Image.fromarray(mask).save(folders[1] / f'{index}.png')
    return root


def with_settings(options, **settings):
    return replace(options, tasks=dict(dense=SETTINGS | settings), batch_size=64)


def test_textures_are_told_apart(scenes, network, options):
    found = dense(network, scenes, with_settings(options))
    assert [m.setting for m in found] == [
        dict(probe='linear', lr=0.1, images=3),
        dict(probe='linear', lr=1.0, images=3),
        dict(probe='k-NN', k=1, images=3),
        dict(probe='k-NN', k=5, images=3),
    ]
    best = [best_of(found[:2]).metrics, best_of(found[2:]).metrics]
    assert all(metrics['miou'] > 60 and metrics['accuracy'] > 75 for metrics in best)
    blind = replace(network, prepare=lambda images: torch.zeros(images.shape))
    without = dense(blind, scenes, with_settings(options))
    assert best_of(without[:2]).metrics['miou'] < 35  # one class everywhere


def test_pixels_are_counted_at_the_size_of_the_label_map(scenes, network, options, monkeypatch):
    from importlib import import_module

    module, seen = import_module('ibot_mm.evaluation.tasks.dense'), []
    monkeypatch.setattr(module, 'segmentation_metrics', lambda m: seen.append(m) or {'miou': 0.0})
    dense(network, scenes, with_settings(options, ks=1, learning_rates=1.0, val_images=2))
    labels = [np.array(Image.open(scenes / f'annotations/validation/{i}.png')) for i in (0, 2)]
    labels = np.concatenate([array[array > 0] for array in labels]) - 1
    for matrix in seen:
        assert matrix.sum(dim=1).tolist() == np.bincount(labels, minlength=3).tolist()


def test_zero_may_be_a_class(scenes, network, options):
    """Then there are four, and the border is one of them."""
    settings = with_settings(options, reduce_zero_label=False, epochs=1)
    metrics = best_of(dense(network, scenes, settings)).metrics
    assert metrics['miou'] < 90
    with pytest.raises(DataError, match='has the label 3, and there are 3 classes: raise'):
        dense(network, scenes, with_settings(options, reduce_zero_label=False, num_classes=3))


def test_a_data_set_of_mmseg_gives_the_same(scenes, network, options, tmp_path):
    pytest.importorskip('mmseg')
    config = tmp_path / 'segmentation.py'
    config.write_text(
        """
loader = dict(dataset=dict(
    type='BaseSegDataset', data_root='elsewhere', reduce_zero_label=True, pipeline=[],
    metainfo=dict(classes=('brick', 'cat', 'grass'), palette=[[0] * 3] * 3),
    data_prefix=dict(img_path='images/training', seg_map_path='annotations/training')))
train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=loader['dataset']))
val_dataloader = dict(dataset=dict(loader['dataset'], data_prefix=dict(
    img_path='images/validation', seg_map_path='annotations/validation')))
"""
    )
    given = with_settings(options, config=str(config))
    check_dense(scenes, given)
    assert dense(network, scenes, given) == dense(network, scenes, with_settings(options))
    with pytest.raises(DataError, match='does not find its data below'):
        check_dense(tmp_path, given)
    root = shutil.copytree(scenes, tmp_path / 'copy')
    (root / 'annotations/validation/1.png').unlink()
    with pytest.raises(DataError, match=r'1 of 3 files \(seg_map_path\) .* first .*1\.png'):
        check_dense(root, given)


def wrong_size(root):
    path = root / 'annotations/training/1.png'
    Image.open(path).resize((30, 20)).save(path)


def colored(root):
    path = root / 'annotations/validation/1.png'
    Image.open(path).convert('RGB').save(path)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda root: shutil.rmtree(root / 'images/validation'), r'has no images/validation/\*'),
        (
            lambda root: (root / 'annotations/training/4.png').unlink(),
            r'training/4\.png is not there: 1 of 9 images have no label map',
        ),
        (wrong_size, r'1\.png is of 30 x 20 pixels and mode L, and .*1\.jpg of 144 x 104'),
        (colored, r'validation/1\.png is of .* mode RGB'),
        (
            lambda root: (root / 'images/training/3.jpg').write_bytes(b''),
            r'3\.jpg or 3\.png cannot be read',
        ),
    ],
)
def test_data_that_do_not_serve(scenes, tmp_path, spoil, message):
    root = shutil.copytree(scenes, tmp_path / 'copy')
    spoil(root)
    with pytest.raises(DataError, match=message):
        check_dense(root, Options())


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(epochs=0), 'dense.epochs must be at least 1, got 0'),
        (dict(ks=()), 'ks of at least 1'),
    ],
)
def test_options_that_do_not_serve(scenes, given, message):
    with pytest.raises(ValueError, match=message):
        check_dense(scenes, Options(tasks=dict(dense=given)))


def test_fewer_patches_than_neighbors(scenes, network, options):
    with pytest.raises(DataError, match='9 labeled training patches, fewer than k=10'):
        dense(network, scenes, with_settings(options, num_patches=9, ks=10))
