# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json

import numpy as np
import pytest
from safetensors import safe_open

from ibot_mm.evaluation import feature_files
from ibot_mm.evaluation.feature_files import open_writer
from ibot_mm.feature_extraction import extract

NAMES = ['a/1.png', 'a/2.png', 'b/ö.png']


def write(path, features):
    writer = open_writer(path, NAMES, features.shape[1:], str(features.dtype))
    writer.write(features[:2])
    writer.write(features[2:])
    writer.close()


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
@pytest.mark.parametrize('shape', [(4,), (5, 2)])
@pytest.mark.parametrize('suffix', ['npy', 'safetensors', 'parquet'])
def test_features_and_names_are_read_back(suffix, shape, dtype, tmp_path):
    features = np.random.default_rng(0).normal(size=(3, *shape)).astype(dtype)
    path = tmp_path / f'new/features.{suffix}'
    if suffix == 'parquet':
        pytest.importorskip('pyarrow')
    write(path, features)
    if suffix == 'npy':
        found, names = np.load(path, mmap_mode='r'), path.with_suffix('.txt').read_text()
        names = names.splitlines()
    elif suffix == 'safetensors':
        with safe_open(path, 'numpy') as file:
            found, names = file.get_tensor('features'), json.loads(file.metadata()['names'])
    else:
        from pyarrow.parquet import read_table

        table = read_table(path)
        names = table['name'].to_pylist()
        found = np.array(table['feature'].to_pylist(), dtype)
        found = found.reshape(-1, *json.loads(table.schema.metadata[b'shape']))
    assert np.array_equal(found, features) and found.dtype == features.dtype
    assert names == NAMES


def test_file_is_not_there_before_it_is_whole(tmp_path):
    writer = open_writer(tmp_path / 'x.npy', NAMES, (2,), 'float32')
    writer.write(np.zeros((1, 2), np.float32))
    assert not (tmp_path / 'x.npy').exists()


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r'\.npy, \.safetensors, \.parquet, got .*x\.csv'):
        open_writer(tmp_path / 'x.csv', NAMES, (2,), 'float32')


def test_parquet_without_pyarrow_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_files, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match='needs pyarrow: pip install pyarrow'):
        extract('nothing.pth', tmp_path, out='x.parquet')
