# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Folders into shards and back."""

import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from packed_images import write_lmdb, write_parquet, write_tar, write_zip
from PIL import Image

from ibot_mm.datasets import ImageFolder, LoadImage, StoreError, TarImages
from ibot_mm.datasets.packing import (
    Encoding,
    PackReport,
    VerifyReport,
    pack_images,
    unpack_images,
    verify_images,
)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """Eleven images of three classes, one broken; a PNG, and names with dots."""
    root = tmp_path_factory.mktemp('tree') / 'train'
    rng = np.random.default_rng(0)
    names = [
        'a/1.jpg',
        'a/1.png',
        'a/x.y.JPEG',
        'b-c/1.jpg',
        'b-c/2.jpg',
        'b/1.jpg',
        'b/deep/1.jpg',
    ]
    for number, name in enumerate([*names, *(f'b/{n}.jpg' for n in range(5, 8))]):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40 + number, 30, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(path, exif=exif)
    (root / 'b/4.jpg').write_bytes(b'\xff\xd8 broken')
    (root / 'empty').mkdir()
    return root


def contents(folder):
    paths = (path for path in Path(folder).rglob('*') if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def pack(tree, out, **options):
    return pack_images(str(tree), out, images_per_shard=4, num_workers=1, **options)


def test_there_and_back(tree, tmp_path):
    report = pack(tree, tmp_path / 'shards')
    assert (report.num_images, report.num_shards) == (10, 3)
    assert [name for name, _ in report.left_out] == ['b/4.jpg']
    assert 'cannot be decoded' in (tmp_path / 'shards/left_out.txt').read_text()
    assert unpack_images(tmp_path / 'shards', tmp_path / 'again') == 10
    expected = contents(tree)
    del expected['b/4.jpg']
    assert contents(tmp_path / 'again') == expected
    assert unpack_images(tmp_path / 'shards', tmp_path / 'again') == 10  # goes on
    (tmp_path / 'again/a/1.jpg').write_bytes(b'mine')
    with pytest.raises(ValueError, match=r'a/1\.jpg is another file already'):
        unpack_images(tmp_path / 'shards', tmp_path / 'again')


@pytest.mark.parametrize('with_label', [False, True])
def test_packed_images_are_the_folders(tree, tmp_path, with_label):
    pack(tree, tmp_path / 'shards')
    packed = TarImages(str(tmp_path / 'shards'), with_label=with_label)
    folder = ImageFolder(str(tree), with_label=with_label)
    infos = [folder.get_data_info(i) for i in range(len(folder))]
    infos = [info for info in infos if not info['img_path'].endswith('b/4.jpg')]
    assert len(packed) == len(infos) == 10
    for number, info in enumerate(infos):
        other = packed.get_data_info(number)
        assert other['img_file'].read_bytes() == Path(info['img_path']).read_bytes()
        assert other.get('gt_label') == info.get('gt_label')
    if with_label:
        assert packed.metainfo['classes'] == folder.metainfo['classes']
        assert packed.metainfo['classes'] == ('a', 'b', 'b-c', 'empty')


def test_the_layout_is_webdatasets(tree, tmp_path):
    pack(tree, tmp_path / 'shards')
    with tarfile.open(tmp_path / 'shards/000000.tar') as tar:
        names = tar.getnames()
        note = json.loads(tar.extractfile('000000002.json').read())
    assert names[:3] == ['000000000.jpg', '000000000.json', '000000000.cls']
    assert note == dict(path='a/x.y.JPEG')
    webdataset = pytest.importorskip('webdataset')
    shards = [str(tmp_path / f'shards/00000{i}.tar') for i in range(3)]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert len(samples) == 10 and samples[0]['jpg'] == (tree / 'a/1.jpg').read_bytes()
    assert [int(sample['cls']) for sample in samples] == [0] * 3 + [2] * 2 + [1] * 5


def test_shrunk_and_encoded(tree, tmp_path):
    pack(tree, tmp_path / 'small', encoding=Encoding(short_side=20))
    small = TarImages(str(tmp_path / 'small'), pipeline=[LoadImage()])
    for number, other in enumerate(ImageFolder(str(tree)).get_data_info(i) for i in range(3)):
        with Image.open(other['img_path']) as image:
            width, height = image.size
        loaded = small[number]
        assert loaded['img'].shape == (round(height * 20 / width), 20, 3)
    names = [small.get_data_info(i)['img_file'].name for i in range(3)]
    assert names == ['a/1.jpg', 'a/1.png.jpg', 'a/x.y.JPEG']
    unpack_images(tmp_path / 'small', tmp_path / 'unpacked')
    with Image.open(tmp_path / 'unpacked/a/1.jpg') as image:
        assert image.getexif()[0x0112] == 6  # turned as before
    pack(tree, tmp_path / 'large', encoding=Encoding(short_side=100))
    unpack_images(tmp_path / 'large', tmp_path / 'same')
    assert contents(tmp_path / 'same')['a/1.png'] == (tree / 'a/1.png').read_bytes()
    pack(tree, tmp_path / 'poor', encoding=Encoding(reencode=True, quality=5))
    unpack_images(tmp_path / 'poor', tmp_path / 'coarse')
    coarse = contents(tmp_path / 'coarse')['a/1.jpg']
    assert len(coarse) < 0.8 * len((tree / 'a/1.jpg').read_bytes())


def test_deep_images_are_packed_and_not_encoded(tmp_path):
    (tmp_path / 'deep').mkdir()
    Image.fromarray(np.full((40, 40), 1000, np.uint16)).save(tmp_path / 'deep/1.png')
    assert pack(tmp_path / 'deep', tmp_path / 'kept').num_images == 1
    report = pack(tmp_path / 'deep', tmp_path / 'small', encoding=Encoding(short_side=20))
    assert report.num_images == 0 and 'values are uint16' in report.left_out[0][1]


def test_goes_on_after_a_stop(tree, tmp_path, monkeypatch):
    whole = pack(tree, tmp_path / 'whole')
    stop = iter([None, None, KeyboardInterrupt()])
    apply = Encoding.apply

    def apply_or_stop(self, content):
        if len(started := list(tmp_path.glob('shards/*.tar'))) == 1:
            if error := next(stop):
                raise error
        assert len(started) < 2
        return apply(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Encoding, 'apply', apply_or_stop)
        with pytest.raises(KeyboardInterrupt):
            pack(tree, tmp_path / 'shards')
    assert (tmp_path / 'shards/.000001.tar.part').exists()
    with pytest.raises(FileNotFoundError, match='lacks 2 of 3 shards.*pack again'):
        TarImages(str(tmp_path / 'shards'))
    assert 'missing' in str(verify_images(tmp_path / 'shards', 1))
    done = (tmp_path / 'shards/000000.tar').stat().st_mtime_ns
    report = pack(tree, tmp_path / 'shards')
    assert (report.num_done_before, report.left_out) == (1, whole.left_out)
    assert (tmp_path / 'shards/000000.tar').stat().st_mtime_ns == done
    assert contents(tmp_path / 'shards') == contents(tmp_path / 'whole')


@pytest.mark.long
def test_processes_change_nothing(tree, tmp_path):
    pack(tree, tmp_path / 'one')
    report = pack_images(str(tree), tmp_path / 'two', images_per_shard=4, num_workers=2)
    assert report.num_images == 10
    assert contents(tmp_path / 'one') == contents(tmp_path / 'two')


def test_another_pack_is_not_mixed_in(tree, tmp_path):
    pack(tree, tmp_path / 'shards')
    with pytest.raises(ValueError, match=r'other options \(settings differ\)'):
        pack(tree, tmp_path / 'shards', encoding=Encoding(short_side=20))
    with pytest.raises(ValueError, match='images_per_shard differ'):
        pack_images(str(tree), tmp_path / 'shards', images_per_shard=5, num_workers=1)
    with pytest.raises(ValueError, match='is not empty and holds no pack'):
        pack(tree, tree)
    with pytest.raises(FileNotFoundError, match='there is no folder'):
        pack(tree / 'none', tmp_path / 'other')
    with pytest.raises(ValueError, match='no images to pack'):
        pack(tree / 'empty', tmp_path / 'other')
    assert not (tmp_path / 'other').exists()


@pytest.mark.parametrize('options', [dict(short_side=0), dict(quality=0), dict(quality=101)])
def test_bounds(options):
    with pytest.raises(ValueError, match=f'{next(iter(options))} must be'):
        Encoding(**options)


@pytest.mark.parametrize('writer', [write_tar, write_zip, write_lmdb, write_parquet])
def test_stores_are_packed_too(tree, tmp_path, writer, image_tree_of):
    root = image_tree_of(tree)
    place = writer(root, tmp_path / 'store')
    source = os.path.join(place['data_root'], place.get('data_prefix', ''))
    source = f'{source}/*.tar' if writer is write_tar else source.rstrip('/')
    report = pack_images(source, tmp_path / 'packed', images_per_shard=4, num_workers=1)
    packed = TarImages(str(tmp_path / 'packed'), with_label=True)
    labels = list(ImageFolder(str(root), with_label=True).get_gt_labels())
    assert report.num_images == 9 and sorted(packed.get_gt_labels()) == sorted(labels)
    unpack_images(tmp_path / 'packed', tmp_path / 'unpacked')
    unpacked = contents(tmp_path / 'unpacked')
    assert sorted(unpacked.values()) == sorted(contents(root).values())
    if writer in (write_zip, write_lmdb):
        assert unpacked == contents(root)


@pytest.fixture
def image_tree_of(tmp_path):
    """Only the sound images that lie directly in class folders."""

    def copy(tree):
        for name, content in contents(tree).items():
            if name.count('/') == 1 and name != 'b/4.jpg':
                path = tmp_path / 'sound' / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        return tmp_path / 'sound'

    return copy


def test_verify(tree, tmp_path):
    pack(tree, tmp_path / 'shards')
    report = verify_images(tmp_path / 'shards', 1)
    assert (report.num_images, report.num_shards, report.faults) == (10, 3, [])
    index = (tmp_path / 'shards/000001.tar.index').read_bytes()
    (tmp_path / 'shards/000000.tar.index').write_bytes(index)
    with tarfile.open(tmp_path / 'shards/000001.tar') as tar:
        start = tar.getmembers()[0].offset_data
    with (tmp_path / 'shards/000001.tar').open('r+b') as file:
        file.seek(start)
        file.write(b'no longer an image')
    os.truncate(tmp_path / 'shards/000002.tar', 3000)
    faults = '\n'.join(verify_images(tmp_path / 'shards', 1).faults)
    assert '000000.tar.index is not the index of the shard' in faults
    assert '000001.tar/b-c/2.jpg: it cannot be decoded' in faults
    assert '000002.tar is cut off' in faults
    assert len(faults.splitlines()) == 3


@pytest.mark.parametrize('number, noun', [(0, '0 shards'), (1, '1 shard'), (2, '2 shards')])
def test_one_is_not_several(number, noun):
    assert noun + ' (found' in str(PackReport('out', number, number, 0))
    assert f'in {noun}: ' in str(VerifyReport(3, number))
    faults = ['x'] * number
    assert f': {noun.replace("shard", "fault")}' in str(VerifyReport(3, 3, faults))
    left_out = str(PackReport('out', 3, 3, 0, [('x', 'y')] * number))
    assert ('left out: ' + noun.replace('shard', 'image') in left_out) == (number > 0)


def test_unpacking_stays_in_its_folder(tmp_path):
    from packed_images import add

    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        add(tar, '1.jpg', b'x')
        add(tar, '1.json', json.dumps(dict(path='../../1.jpg')).encode())
    with pytest.raises(ValueError, match=r'a\.tar/\.\./\.\./1\.jpg would be written outside'):
        unpack_images(tmp_path / 'a.tar', tmp_path / 'out')
    with tarfile.open(tmp_path / 'a.tar', 'w') as tar:
        for name, content in (('1.jpg', b'x'), ('1.cls', b'7'), ('2.jpg', b'y'), ('2.cls', b'0')):
            add(tar, name, content)
    unpack_images(tmp_path / 'a.tar', tmp_path / 'out')
    assert contents(tmp_path / 'out') == {'7/1.jpg': b'x', '0/2.jpg': b'y'}
    os.truncate(tmp_path / 'a.tar', 600)
    with pytest.raises(StoreError):
        unpack_images(tmp_path / 'a.tar', tmp_path / 'out')
