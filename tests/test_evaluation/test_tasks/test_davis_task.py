# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""DAVIS in its own layout: pieces of photographs that move over others."""

import csv
import shutil
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image

from ibot_mm.evaluation import DataError, Options
from ibot_mm.evaluation.tasks.davis import check_davis, davis, input_size

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0]  # of the annotations
SETTINGS = dict(short_side=128, num_last_frames=2, radius=3)


@pytest.fixture
def davis_options(options):
    return replace(options, tasks=dict(davis=SETTINGS))


def test_moving_objects_are_followed(videos, network, davis_options, tmp_path):
    (found,) = davis(network, videos, davis_options)
    assert found.setting == dict(videos=2, objects=3)
    metrics = found.metrics
    assert list(metrics) == [
        'jf', 'j_mean', 'j_recall', 'j_decay', 'f_mean', 'f_recall', 'f_decay',
    ]  # fmt: skip
    assert metrics['jf'] == pytest.approx((metrics['j_mean'] + metrics['f_mean']) / 2)
    assert metrics['j_mean'] > 60
    with (tmp_path / 'out/davis_objects.csv').open() as file:
        rows = {row['object']: row for row in csv.DictReader(file)}
    assert list(rows) == ['cat_1', 'cat_2', 'rocket_1']
    mean = np.mean([float(row['j_mean']) for row in rows.values()])
    assert mean == pytest.approx(metrics['j_mean'], abs=1e-3)
    blind = replace(network, prepare=lambda images: torch.zeros(images.shape))
    (other,) = davis(blind, videos, davis_options)
    assert other.metrics['j_mean'] < metrics['j_mean'] - 10


def test_masks_are_written_as_the_annotations(videos, network, davis_options, tmp_path):
    davis(
        network, videos, replace(davis_options, tasks=dict(davis=SETTINGS | dict(save_masks=True)))
    )
    written = sorted((tmp_path / 'out/davis_masks/cat').iterdir())
    assert [path.name for path in written] == [f'{time:05}.png' for time in range(6)]
    with Image.open(written[0]) as image:
        assert image.size == (200, 130) and image.getpalette()[:9] == PALETTE
        expected = np.array(Image.open(videos / 'Annotations/480p/cat/00000.png'))
        assert np.array_equal(np.array(image), expected)
    assert set(np.unique(Image.open(written[4]))) == {0, 1, 2}


def test_memory_holds_the_last_frames_alone(videos, network, davis_options, monkeypatch):
    from ibot_mm.functional import label_propagation

    seen = []
    propagate = label_propagation.propagate_labels

    def watch(target, sources, *args):
        seen.append(len(sources))
        return propagate(target, sources, *args)

    monkeypatch.setattr(label_propagation, 'propagate_labels', watch)
    davis(network, videos, davis_options)
    assert seen == [1, 2, 3, 3, 3, 1, 2, 3, 3]


def edit(root, video, number, change):
    path = root / f'Annotations/480p/{video}/{number:05}.png'
    mask = np.array(Image.open(path))
    Image.fromarray(change(mask)).save(path)


def test_an_object_that_leaves_is_right_where_nothing_is_found(
    videos, network, davis_options, tmp_path
):
    root = shutil.copytree(videos, tmp_path / 'copy')
    for number in range(1, 5):
        edit(root, 'rocket', number, np.zeros_like)
    davis(network, root, davis_options)
    with (tmp_path / 'out/davis_objects.csv').open() as file:
        rows = {row['object']: float(row['j_mean']) for row in csv.DictReader(file)}
    assert rows['rocket_1'] == 0  # it was predicted all the time, and was not there


def test_an_object_too_small_for_a_patch_is_named(
    videos, network, davis_options, tmp_path, monkeypatch
):
    def shrink(mask):
        small = np.where(mask == 1, mask, 0)
        small[0, 0] = 2
        return small

    root = shutil.copytree(videos, tmp_path / 'copy')
    edit(root, 'cat', 0, shrink)
    check_davis(root, davis_options)
    told = []
    module = import_module('ibot_mm.evaluation.tasks.davis')
    monkeypatch.setattr(module, 'print_log', lambda message, **kwargs: told.append(message))
    (found,) = davis(network, root, davis_options)
    assert found.setting['objects'] == 3
    assert [message.partition(' and is')[0] for message in told] == [
        'davis: object 2 of cat vanishes on the grid of 8 x 12 patches'
    ]
    with (tmp_path / 'out/davis_objects.csv').open() as file:
        rows = {row['object']: float(row['j_mean']) for row in csv.DictReader(file)}
    assert rows['cat_2'] == 0 and rows['cat_1'] > 50


def resize_mask(root):
    path = root / 'Annotations/480p/cat/00003.png'
    Image.open(path).resize((100, 65)).save(path)


def resize_frame(root):
    path = root / 'JPEGImages/480p/cat/00003.jpg'
    Image.open(path).resize((100, 65)).save(path)


def color_mask(root):
    path = root / 'Annotations/480p/cat/00003.png'
    Image.open(path).convert('RGB').save(path)


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda root: (root / 'ImageSets/2017/val.txt').unlink(), r'no file .*val\.txt'),
        (lambda root: (root / 'ImageSets/2017/val.txt').write_text('\n'), 'names no video'),
        (
            lambda root: shutil.rmtree(root / 'JPEGImages/480p/rocket'),
            r'video rocket of val\.txt has no frames',
        ),
        (
            lambda root: (root / 'Annotations/480p/cat/00004.png').unlink(),
            r'1 of 6 frames of video cat have no mask in .*, first 00004\.jpg',
        ),
        (
            lambda root: [(root / f'JPEGImages/480p/cat/{n:05}.jpg').unlink() for n in range(4)],
            'video cat has 2 frames: 3 are needed',
        ),
        (resize_mask, r'cat/00003\.png is of 100 x 65 pixels, and .*00000\.jpg of 200 x 130'),
        (resize_frame, r'cat/00003\.jpg is of 100 x 65 pixels'),
        (color_mask, r'00003\.png is an image of mode RGB, not a mask'),
        (lambda root: edit(root, 'cat', 0, np.zeros_like), r'cat/00000\.png has no object'),
        (
            lambda root: (root / 'Annotations/480p/cat/00003.png').write_bytes(b'no image'),
            r'00003\.png cannot be read',
        ),
    ],
)
def test_data_that_do_not_serve(videos, tmp_path, spoil, message):
    root = shutil.copytree(videos, tmp_path / 'copy')
    spoil(root)
    with pytest.raises(DataError, match=message):
        check_davis(root, Options())


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(topk=0), 'topk of at least 1'),
        (dict(radius=-1), 'radius and num_last_frames of at least 0'),
        (dict(n=1), 'unknown option davis.n'),
    ],
)
def test_options_that_do_not_serve(videos, given, message):
    with pytest.raises(ValueError, match=message):
        check_davis(videos, Options(tasks=dict(davis=given)))


@pytest.mark.parametrize(
    'size, stride, expected',
    [
        ((480, 854), 16, (480, 832)),
        ((854, 480), 16, (832, 480)),
        ((480, 480), 16, (480, 448)),
        ((480, 854), 14, (476, 840)),
    ],
)
def test_input_size(size, stride, expected):
    assert input_size(size, 480, stride) == expected


def test_frames_that_become_too_small():
    with pytest.raises(ValueError, match='become smaller than 64 pixels'):
        input_size((100, 101), 32, 16)
