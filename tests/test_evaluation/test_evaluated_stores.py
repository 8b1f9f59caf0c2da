# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stores are evaluated, and their features extracted, as the folders that they were made from."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from packed_images import write_arrow, write_lmdb, write_parquet, write_zip

from ibot_mm.datasets.packing import pack_images
from ibot_mm.evaluation import DataError, Options
from ibot_mm.evaluation_request import Request, load_splits
from ibot_mm.feature_extraction import extract
from ibot_mm.frozen_evaluation import evaluate_frozen

OPTIONS = Options(ks=(1, 3))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


def pack(folder, out):
    pack_images(str(folder), out, images_per_shard=5, num_workers=1)


def zip_beside(folder, out):
    """ROOT/train.zip."""
    write_zip(folder, out)
    (out / 'train.zip').rename(out.with_suffix('.zip'))
    out.rmdir()


def lmdb_beside(folder, out):
    """ROOT/train.lmdb."""
    write_lmdb(folder, out)
    (out / 'train.lmdb').rename(out.with_suffix('.lmdb'))
    out.rmdir()


def parquet_beside(folder, out):
    """ROOT/train-0.parquet, ROOT/train-1.parquet."""
    write_parquet(folder, out)
    for file in out.iterdir():
        file.rename(out.parent / file.name.replace('train', out.name))
    out.rmdir()


WRITERS = dict(
    packed=pack,
    zip=zip_beside,
    lmdb=lmdb_beside,
    parquet=parquet_beside,
    arrow=write_arrow,
)


@pytest.fixture(params=WRITERS)
def stores(request, splits_folder, tmp_path):
    for split in ('train', 'val'):
        WRITERS[request.param](splits_folder / split, tmp_path / 'stores' / split)
    return tmp_path / 'stores'


@pytest.fixture
def measure(checkpoint, tmp_path):
    def run(data):
        request = Request(
            str(checkpoint), str(data), out=str(tmp_path / 'out'), protocols=('knn',),
            image_size=16, num_workers=0,
        )  # fmt: skip
        return evaluate_frozen(request, OPTIONS)

    return run


def test_numbers_are_the_folders(stores, measure, splits_folder):
    found, expected = measure(stores), measure(splits_folder)
    assert found['measurements'] == expected['measurements']
    assert found['images'] == dict(train=24, val=12) and found['classes'] == 3


def test_features_are_the_folders(stores, checkpoint, splits_folder):
    options = dict(image_size=16, num_workers=0)
    expected, names = extract(checkpoint, splits_folder / 'val', **options)
    place = next(stores.glob('val*'))
    if place.suffix == '.parquet':
        place = stores / 'val-*.parquet'
    features, found = extract(checkpoint, place, **options)
    assert np.array_equal(features, expected)
    if place.suffix == '.parquet':  # rows without names
        assert found == [f'val-{i // 7}/{i % 7}' for i in range(12)]
    elif place.suffix or not list(place.glob('*.arrow')):
        assert found == names


def test_features_of_a_replaced_shard_are_extracted_anew(measure, splits_folder, tmp_path):
    """Also where names, places and sizes are the same."""
    root = tmp_path / 'stores'
    for split in ('train', 'val'):
        pack(splits_folder / split, root / split)
    first = measure(root)['measurements']
    folders = sorted((tmp_path / 'out/features').iterdir())
    measure(shutil.copytree(root, tmp_path / 'moved'))
    assert sorted((tmp_path / 'out/features').iterdir()) == folders  # times of change are copied
    shard = root / 'train/000000.tar'
    os.utime(shard, ns=(1, 1))
    assert measure(root)['measurements'] == first
    added = set((tmp_path / 'out/features').iterdir()) - set(folders)
    assert [folder.name.split('-')[0] for folder in added] == ['train']


@pytest.mark.parametrize('damage, message', [
    (lambda root: shutil.rmtree(root / 'val'), r'has no val: neither a folder nor a store'),
    (lambda root: (root / 'train/000001.tar').unlink(), r'lacks 1 of 5 shards'),
    (
        lambda root: [shutil.copy(root / 'val/000000.tar', root / f'val/x.{end}')
                      for end in ('zip', 'parquet')] and (root / 'val/pack.json').unlink(),
        r'several kinds of stores \(\.parquet, \.tar, \.zip\)',
    ),
])  # fmt: skip
def test_what_is_missing_is_named(damage, message, splits_folder, tmp_path):
    root = tmp_path / 'stores'
    for split in ('train', 'val'):
        pack(splits_folder / split, root / split)
    damage(root)
    with pytest.raises((DataError, ValueError, FileNotFoundError), match=message):
        load_splits(Request('', str(root), image_size=16))


def test_an_archive_beside_images_changes_nothing(measure, splits_folder, tmp_path):
    root = shutil.copytree(splits_folder, tmp_path / 'splits')
    for name in ('train.tar', 'train/all.zip', 'val/val.tar'):
        (root / name).write_bytes(b'what the images were unpacked from')
    assert measure(root)['images'] == dict(train=24, val=12)


def test_stores_without_labels(tmp_path, splits_folder):
    flat = tmp_path / 'flat'
    flat.mkdir()
    for path in Path(splits_folder).glob('val/*/*.png'):
        shutil.copy(path, flat / f'{path.parent.name}_{path.name}')
    for split in ('train', 'val'):
        pack(flat, tmp_path / 'stores' / split)
    with pytest.raises(DataError, match='have neither a label nor a class folder'):
        load_splits(Request('', str(tmp_path / 'stores'), image_size=16))
