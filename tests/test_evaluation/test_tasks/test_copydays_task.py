# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Copydays in its own layout: attacked pieces of photographs."""

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ibot_mm.evaluation import DataError, Options
from ibot_mm.evaluation.tasks.copydays import BLOCKS, check_copydays, copydays

NAMES = ('astronaut', 'chelsea', 'coffee', 'flower', 'rocket')


@pytest.fixture(scope='session')
def copies(tmp_path_factory, photographs, cut):
    """Five originals of different sizes; the first has two strong copies."""
    root = tmp_path_factory.mktemp('copydays')
    for block in BLOCKS:
        (root / block).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        box = (10, 10, 150 + 10 * number, 120)
        original = cut(photographs[name], box)
        stem = f'{2000 + number}00'  # the first four letters tell the original
        original.save(root / f'original/{stem}.jpg', quality=95)
        for block in BLOCKS:
            kind, _, strength = block.partition('/')
            path = root / block / f'{stem}.jpg'
            if kind == 'jpegqual':
                original.save(path, quality=int(strength))
            elif kind == 'crops':
                width, height = original.size
                left, top = (round(side * int(strength) / 180) for side in (width, height))
                original.crop((left, top, width - left, height - top)).save(path)
            elif kind == 'strong':
                for copy in range(2 if number == 0 else 1):
                    turned = original.transpose(Image.Transpose.ROTATE_90)
                    strong = turned if copy else original.point(lambda value: value // 2)
                    strong.save(root / f'strong/{2000 + number}0{copy + 1}.jpg')
    return root


@pytest.fixture(scope='session')
def others(tmp_path_factory, photographs, cut):
    """Images of other photographs, for distractors and whitening."""
    folder = tmp_path_factory.mktemp('others')
    for name in ('brick', 'camera', 'china', 'coins', 'grass', 'gravel'):
        for left in (0, 40):
            cut(photographs[name], (left, left, 100, 120)).save(folder / f'{name}{left}.png')
    return folder


def with_settings(options, **settings):
    return replace(options, tasks=dict(copydays=dict(image_size=64) | settings))


def test_copies_are_found(copies, network, options):
    found = copydays(network, copies, with_settings(options))
    maps = {m.setting['block']: m.metrics['map'] for m in found}
    assert list(maps) == list(BLOCKS)
    assert maps['original'] == 100 and maps['jpegqual/75'] == 100
    assert maps['crops/10'] == 100 > maps['crops/80'] > 0
    assert maps['strong'] < 100
    assert found[1].setting == dict(block='strong', queries=6, images=5, distractors=0)


def test_distractors_and_whitening(copies, others, network, options):
    """Distractors can only push originals back; whitening is another row."""
    blocks = ('strong', 'jpegqual/3', 'crops/80')
    plain, disturbed, whitened = (
        copydays(network, copies, with_settings(options, blocks=blocks, **settings))
        for settings in ({}, dict(distractors=str(others)), dict(whitening=str(others)))
    )
    pairs = [(a.metrics['map'], b.metrics['map']) for a, b in zip(plain, disturbed)]
    assert all(after <= before for before, after in pairs) and pairs != [(a, a) for a, _ in pairs]
    assert disturbed[0].setting['distractors'] == 12
    assert whitened[0].setting['whitening'] == 'whitened'
    assert [m.metrics for m in whitened] != [m.metrics for m in plain]


def test_scores_are_those_of_the_features(copies, network, options):
    """By hand, over the cached features."""
    found = copydays(network, copies, with_settings(options, blocks='crops/80', topk=2))
    from ibot_mm.evaluation.tasks.copydays import CopydaysSettings, _extract

    settings = CopydaysSettings(image_size=64)
    features = [
        torch.nn.functional.normalize(
            _extract(network, sorted((copies / block).glob('*.jpg')), options, settings, block),
            dim=1,
        )
        for block in ('original', 'crops/80')
    ]
    ranks = (features[1] @ features[0].T).argsort(dim=1, descending=True).argsort(dim=1).diag()
    precision = torch.tensor([1.0, 0.25, 0, 0, 0])  # at the first, at the second place
    assert found[0].metrics['map'] == pytest.approx(float(100 * precision[ranks].mean()))


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda root: shutil.rmtree(root / 'original'), r'has no images original/\*\.jpg'),
        (lambda root: shutil.rmtree(root / 'crops/40'), r'has no images crops/40/\*\.jpg'),
        (
            lambda root: (root / 'jpegqual/8/200100.jpg').unlink(),
            'jpegqual/8 has 4 images and there are 5 originals',
        ),
        (
            lambda root: (root / 'strong/200001.jpg').rename(root / 'strong/300001.jpg'),
            "copy of no original: none begins with '3000'",
        ),
    ],
)
def test_data_that_do_not_serve(copies, tmp_path, spoil, message):
    root = shutil.copytree(copies, tmp_path / 'copy')
    spoil(root)
    with pytest.raises(DataError, match=message):
        check_copydays(root, Options())


@pytest.mark.parametrize(
    'settings, message',
    [
        (dict(blocks='weak'), "no block 'weak'"),
        (dict(distractors='/nowhere'), 'there is no folder /nowhere'),
        (dict(whitening='tests'), 'tests has no images'),
        (dict(topk=0), 'topk of at least 1'),
    ],
)
def test_options_that_do_not_serve(copies, settings, message):
    with pytest.raises(ValueError, match=message):
        check_copydays(copies, Options(tasks=dict(copydays=settings)))
