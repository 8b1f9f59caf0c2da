# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Retrieval in the layout of revisited Oxford, of pieces of photographs."""

import os
import pickle
import shutil

import numpy as np
import pytest

from ibot_mm.evaluation import DataError, Options
from ibot_mm.evaluation.tasks.retrieval import check_retrieval, retrieval


def test_changed_photographs_are_found(roxford, network, options):
    found = retrieval(network, roxford, options)
    assert [m.setting['difficulty'] for m in found] == ['easy', 'medium', 'hard']
    assert found[0].setting['images'] == 19 and found[0].setting['queries'] == 4
    easy, medium, hard = (m.metrics for m in found)
    assert list(easy) == ['map', 'mp@1', 'mp@5', 'mp@10']
    assert easy['map'] == 100 and easy['mp@1'] == 100  # the same piece, a little darker
    assert 50 < hard['map'] <= medium['map'] < 100.1
    chance = 100 / 19
    assert hard['map'] > 5 * chance


def test_results_do_not_depend_on_the_batch(roxford, network, options, tmp_path):
    one_by_one = Options(work_dir=str(tmp_path / 'other'), images_per_batch=1, num_workers=0)
    assert retrieval(network, roxford, options) == retrieval(network, roxford, one_by_one)


def rewrite(root, change):
    path = root / 'roxford5k/gnd_roxford5k.pkl'
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


def no_queries(root):
    rewrite(root, lambda truth: truth.update(qimlist=[], gnd=[]))


def names_too_many(root):
    rewrite(root, lambda truth: truth['gnd'][1].update(easy=np.array([0, 19])))


def no_positives(root):
    def change(truth):
        for images in truth['gnd']:
            images.update(easy=[], hard=[])

    rewrite(root, change)


def unsafe(root):
    class Command:
        def __reduce__(self):
            return os.system, ('false',)

    (root / 'roxford5k/gnd_roxford5k.pkl').write_bytes(pickle.dumps(Command()))


@pytest.mark.parametrize(
    'spoil, message',
    [
        (lambda root: shutil.rmtree(root / 'roxford5k'), 'has neither roxford5k nor rparis6k'),
        (lambda root: (root / 'roxford5k/gnd_roxford5k.pkl').unlink(), r'there is no file .*\.pkl'),
        (lambda root: shutil.rmtree(root / 'roxford5k/jpg'), '23 of 23 images .* are\nmissing'),
        (
            lambda root: (root / 'roxford5k/jpg/coins.jpg').unlink(),
            r'1 of 23 images that gnd_roxford5k\.pkl names are missing, first .*coins\.jpg',
        ),
        (no_queries, 'names 0 queries'),
        (names_too_many, 'query query_chelsea names images beyond the 19'),
        (no_positives, 'no query has an image to be found'),
        (lambda root: rewrite(root, lambda truth: truth.pop('gnd')), "KeyError\\('gnd'\\)"),
        (unsafe, 'system is not allowed'),
    ],
)
def test_data_that_do_not_serve(roxford, tmp_path, spoil, message):
    root = shutil.copytree(roxford, tmp_path / 'copy')
    spoil(root)
    with pytest.raises(DataError, match=message.replace('\n', ' ')):
        check_retrieval(root, Options())


@pytest.mark.parametrize(
    'given, message',
    [
        (dict(size=3), 'unknown option retrieval.size: retrieval has image_size, scales, ks'),
        (dict(image_size='large'), 'must be of the kind of its default 512'),
        (dict(scales=(0.0,)), 'scales above 0'),
        (dict(ks=[0]), 'ks must be at least 1'),
    ],
)
def test_options_that_do_not_serve(roxford, given, message):
    with pytest.raises(ValueError, match=message):
        check_retrieval(roxford, Options(tasks=dict(retrieval=given)))


def test_an_image_that_cannot_be_read_is_named(roxford, network, options, tmp_path):
    root = shutil.copytree(roxford, tmp_path / 'copy')
    path = root / 'roxford5k/jpg/coins.jpg'
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r'coins\.jpg cannot be read'):
        retrieval(network, root, options)
