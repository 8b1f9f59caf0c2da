# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Features on disk are found again, gone on with, and never taken for others."""

import json

import numpy as np
import pytest
import torch

from ibot_mm.evaluation import FeatureCache, FeatureCacheError
from ibot_mm.evaluation.cache import fingerprint_images, fingerprint_weights

KEY = dict(weights='a', images='b')


def test_rows_are_written_once_and_found_again(tmp_path):
    cache = FeatureCache(tmp_path, 'train', KEY, (7, 3))
    features = torch.randn(7, 3)
    cache.write([5, 1, 2], features[[5, 1, 2]])
    again = FeatureCache(tmp_path, 'train', KEY, (7, 3))
    assert again.pending().tolist() == [0, 3, 4, 6]
    with pytest.raises(FeatureCacheError, match='lacks 4 of 7 images: the extraction was interr'):
        again.features()
    again.write([0, 3, 4, 6], features[[0, 3, 4, 6]])
    assert torch.equal(cache.features(), features)
    assert np.array_equal(np.load(cache.folder / 'features.npy'), features.numpy())


def test_other_keys_types_and_names_have_other_folders(tmp_path):
    caches = [
        FeatureCache(tmp_path, 'train', KEY, (2, 3)),
        FeatureCache(tmp_path, 'train', KEY | dict(weights='c'), (2, 3)),
        FeatureCache(tmp_path, 'train', KEY, (2, 3), 'float16'),
        FeatureCache(tmp_path, 'val', KEY, (2, 3)),
    ]
    assert len({cache.folder for cache in caches}) == 4
    assert caches[2].features is not None and caches[2].dtype == np.float16


def test_cache_of_something_else_is_refused(tmp_path):
    cache = FeatureCache(tmp_path, 'train', KEY, (2, 3))
    content = json.loads((cache.folder / 'key.json').read_text())
    (cache.folder / 'key.json').write_text(json.dumps(content | dict(weights='x')))
    with pytest.raises(FeatureCacheError, match='belongs to something else; it differs in weights'):
        FeatureCache(tmp_path, 'train', KEY, (2, 3))


def test_cache_of_another_size_or_damaged_is_refused(tmp_path):
    cache = FeatureCache(tmp_path, 'train', KEY, (2, 3))
    with pytest.raises(FeatureCacheError, match=r'holds \(2, 3\) features, expected \(4, 3\)'):
        FeatureCache(tmp_path, 'train', KEY, (4, 3))
    (cache.folder / 'features.npy').write_bytes(b'')
    with pytest.raises(FeatureCacheError, match='cannot be read'):
        FeatureCache(tmp_path, 'train', KEY, (2, 3))


def test_creation_that_was_interrupted_is_begun_anew(tmp_path):
    cache = FeatureCache(tmp_path, 'train', KEY, (2, 3))
    cache.write([0], torch.ones(1, 3))
    (cache.folder / 'key.json').unlink()
    assert FeatureCache(tmp_path, 'train', KEY, (2, 3)).pending().tolist() == [0, 1]


@pytest.mark.parametrize('value, dtype', [(float('nan'), 'float32'), (1e6, 'float16')])
def test_values_that_are_not_finite_are_refused(tmp_path, value, dtype):
    cache = FeatureCache(tmp_path, 'train', KEY, (9, 1), dtype)
    with pytest.raises(FloatingPointError, match='image 8'):
        cache.write([3, 8], torch.tensor([[0.0], [value]]))
    assert len(cache.pending()) == 9


def test_unknown_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'float32', 'float16'.* got 'int8'"):
        FeatureCache(tmp_path, 'train', KEY, (1, 1), 'int8')


def test_fingerprint_of_weights_sees_values_and_names():
    torch.manual_seed(0)
    linear = torch.nn.Linear(2, 3)
    before = fingerprint_weights(linear)
    assert fingerprint_weights(linear) == before
    assert fingerprint_weights(torch.nn.Sequential(linear)) != before
    with torch.no_grad():
        linear.bias[2] += 1e-6
    assert fingerprint_weights(linear) != before


def test_fingerprint_of_images_sees_changes_and_not_the_place(tmp_path):
    def make(folder):
        folder.mkdir()
        for name in 'ab':
            (folder / name).write_text(name)
        return [str(folder / name) for name in 'ab']

    paths = make(tmp_path / 'one')
    before = fingerprint_images(paths)
    (tmp_path / 'one').rename(tmp_path / 'two')
    moved = [str(tmp_path / 'two' / name) for name in 'ab']
    assert fingerprint_images(moved) == before
    (tmp_path / 'two/b').write_text('other')
    assert fingerprint_images(moved) != before
