# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stores that are reached through fsspec and commands, and what they do wrong."""

import shutil
from types import SimpleNamespace

import pytest
from packed_images import batches_of, pipeline, write_tar

from benchmarks.slow_store import serve
from ibot_mm.datasets import ImageFolder, LoadImage, StoreError, TarImages
from ibot_mm.datasets.stores.retries import Retries

NUMBERED = '{00..01}.tar'


@pytest.fixture
def shards(image_tree, tmp_path):
    write_tar(image_tree, tmp_path / 'shards')
    return tmp_path / 'shards'


@pytest.fixture
def quick(monkeypatch):
    """Tries follow each other at once."""
    no_time = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr('ibot_mm.datasets.stores.retries.time', no_time)


@pytest.fixture
def store(shards, quick):
    pytest.importorskip('aiohttp')
    with serve(shards) as store:
        yield store


@pytest.fixture
def memory(shards):
    """What any object store of fsspec does."""
    fsspec = pytest.importorskip('fsspec')
    system = fsspec.filesystem('memory')
    system.put(str(shards), '/bucket', recursive=True)
    yield 'memory://bucket'
    system.rm('/bucket', recursive=True)


def read(dataset):
    return [dataset.get_data_info(i)['img_file'].read_bytes() for i in range(len(dataset))]


def same_as_folder(dataset, image_tree):
    folder = ImageFolder(str(image_tree), with_label=True, pipeline=pipeline())
    pairs = zip(batches_of(dataset), batches_of(folder), strict=True)
    return all((crop == other).all() for (crop, *_), (other, *_) in pairs)


def test_byte_ranges_over_http(store, image_tree):
    dataset = TarImages(store.address, NUMBERED, pipeline=pipeline())
    assert same_as_folder(dataset, image_tree)
    del store.requests[:]
    TarImages(store.address, NUMBERED)
    asked = [request.split()[0] for request in store.requests]
    assert not any(request.endswith('-') for request in store.requests)
    assert len(asked) == 4  # size of each shard, and that there is no index beside it


def test_objects(memory, image_tree):
    for place in (memory, f'{memory}/*.tar', f'{memory}/{NUMBERED}'):
        dataset = TarImages(place, pipeline=pipeline())
        assert len(dataset) == 12
    assert same_as_folder(dataset, image_tree)


@pytest.mark.parametrize('faults', [['503'], ['drop'], ['429', '500', 'drop'], ['stall']])
def test_a_fault_is_survived(store, faults):
    dataset = TarImages(store.address, NUMBERED, timeout=0.5)
    expected = read(dataset)
    store.faults += faults
    assert read(dataset) == expected and not store.faults


@pytest.mark.parametrize('fault', ['503', 'drop', 'stall'])
def test_a_store_that_stays_down_is_named(store, fault):
    dataset = TarImages(
        store.address, NUMBERED, timeout=0.3, attempts=2, pipeline=[LoadImage(on_error='skip')]
    )
    store.faults += [fault] * 2
    with pytest.raises(
        StoreError,
        match=r'cannot read image .*00\.tar/0000\.jpeg: .* failed 2 times \(.*raise atte',
    ):
        dataset[0]


def test_what_will_not_change_is_asked_once(store):
    dataset = TarImages(store.address, NUMBERED)
    store.faults += ['403']
    before = len(store.requests)
    with pytest.raises(StoreError, match=r'failed \(.*403'):
        dataset.get_data_info(0)['img_file'].read_bytes()
    assert len(store.requests) == before + 1
    with pytest.raises(StoreError, match=r'looking up .*7\.tar failed \(FileNotFoundError'):
        TarImages(store.address, '7.tar')


def test_nobody_listens(store):
    address = store.address
    store.shutdown()
    store.server_close()
    with pytest.raises(StoreError, match='failed 2 times'):
        TarImages(address, '00.tar', attempts=2, timeout=1)


def test_a_server_without_ranges_needs_copies(store, tmp_path):
    dataset = TarImages(store.address, '00.tar')
    expected = read(dataset)
    store.has_ranges = False
    with pytest.raises(StoreError, match='sends whole files only.*set cache_dir'):
        read(dataset)
    copied = TarImages(store.address, '00.tar', cache_dir=str(tmp_path / 'copies'))
    assert read(copied) == expected
    before = len(store.requests)
    assert read(TarImages(store.address, '00.tar', cache_dir=str(tmp_path / 'copies'))) == expected
    assert not [r for r in store.requests[before:] if 'GET' in r or 'bytes=' in r]


def test_copies_are_whole(store, tmp_path):
    store.faults += ['drop', '500']
    dataset = TarImages(store.address, NUMBERED, cache_dir=str(tmp_path / 'copies'))
    assert len(read(dataset)) == 12
    names = [path.name for path in (tmp_path / 'copies').iterdir() if path.suffix != '.lock']
    assert len(names) == 2 and not any(name.endswith('.part') for name in names)


def test_faults_while_shards_are_counted(shards, quick, monkeypatch):
    """Whole shards are counted in several requests: a fault in any of them begins it anew."""
    pytest.importorskip('aiohttp')
    with serve(shards) as store:
        store.faults += ['503', 'drop']
        assert len(TarImages(store.address, NUMBERED, timeout=5)) == 12 and not store.faults
    with serve(shards) as store:
        store.faults += ['500'] * 40
        with pytest.raises(StoreError, match=r'00\.tar failed 2 times'):
            TarImages(store.address, '00.tar', attempts=2, index_dir=str(shards.parent / 'new'))


def test_commands(shards, tmp_path, quick):
    place = f'pipe:cat {shards}/{NUMBERED}'
    with pytest.raises(StoreError, match='set cache_dir'):
        TarImages(place)
    dataset = TarImages(place, cache_dir=str(tmp_path / 'copies'))
    assert read(dataset) == read(TarImages(str(shards)))
    for command, message in (
        (f'cat {shards}/none.tar', 'ended with status 1: .*none.tar'),
        (f'head -c 900 {shards}/00.tar; exit 3', 'ended with status 3'),
        ('exec sleep 5', 'wrote nothing for 0.2 s'),
        ('true', 'wrote nothing'),
    ):
        with pytest.raises(StoreError, match=message):
            TarImages(f'pipe:{command}', cache_dir=str(tmp_path / 'c'), attempts=2, timeout=0.2)
    assert not list((tmp_path / 'c').glob('[!.]*'))


def test_what_cannot_be_reached_names_the_extra():
    with pytest.raises(ImportError, match=r"pip install 'ibot-mm\[stores\]'"):
        TarImages('nosuch://bucket/a.tar')


def test_an_index_beside_a_shard_travels_with_it(shards, memory):
    from ibot_mm.datasets.packing import pack_images

    pack_images(str(shards / '00.tar'), shards.parent / 'packed', num_workers=1)
    import fsspec

    system = fsspec.filesystem('memory')
    system.put(str(shards.parent / 'packed'), '/bucket/packed', recursive=True)
    shutil.rmtree(shards.parent / 'cache', ignore_errors=True)
    dataset = TarImages('memory://bucket', 'packed')
    assert len(dataset) == 5 and not (shards.parent / 'cache').exists()  # nothing was counted


@pytest.mark.parametrize('options', [dict(attempts=0), dict(timeout=0), dict(timeout=1, wait=-1)])
def test_bounds_of_tries(options):
    with pytest.raises(ValueError, match='of a store must be at least 1, got 0|timeout'):
        Retries(**options)
