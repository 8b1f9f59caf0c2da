# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Shards that are damaged, unordered, incomplete or replaced."""

import io
import os
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from packed_images import add, listed, write_tar

from ibot_mm.datasets import (
    LMDBImages,
    LoadImage,
    ParquetImages,
    StoreError,
    TarImages,
    ZipImages,
)
from ibot_mm.datasets.transforms.image_errors import UnsupportedImageError


@pytest.fixture
def shards(image_tree, tmp_path):
    """Two tar shards that may be damaged."""
    write_tar(image_tree, tmp_path / 'shards')
    return tmp_path / 'shards'


@pytest.mark.parametrize('end', ['within an image', 'before a header', 'without an end'])
def test_a_truncated_shard_is_named(shards, end):
    path = shards / '01.tar'
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    size = {
        'within an image': members[-2].offset_data + 100,
        'before a header': members[-2].offset,
        'without an end': members[-1].offset_data + 512,
    }[end]
    os.truncate(path, size)
    with pytest.raises(StoreError, match=r'01\.tar is cut off'):
        TarImages(str(shards))


def test_a_damaged_header_is_not_taken_for_the_end(shards):
    path = shards / '00.tar'
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[4].offset
    with path.open('r+b') as file:
        file.seek(offset)
        file.write(b'\xff' * 512)
    with pytest.raises(StoreError, match=rf'00\.tar is damaged at byte {offset}, after 0001\.cls'):
        TarImages(str(shards))


def test_a_compressed_or_foreign_shard(tmp_path):
    with tarfile.open(tmp_path / 'a.tar', 'w:gz') as tar:
        add(tar, '1.jpg', b'x')
    with pytest.raises(StoreError, match=r'a\.tar is cut off, damaged or compressed'):
        TarImages(str(tmp_path))
    (tmp_path / 'a.tar').write_bytes(b'')
    with pytest.raises(StoreError, match='a.tar'):
        TarImages(str(tmp_path))


def write(path, *members):
    with tarfile.open(path, 'w') as tar:
        for name, content in members:
            add(tar, name, content)


def test_members_in_any_order_are_joined_by_key(tmp_path):
    write(
        tmp_path / 'a.tar', ('2.cls', b'1'), ('1.jpg', b'one'), ('./2.jpg', b'two'), ('1.cls', b'0')
    )
    dataset = TarImages(str(tmp_path), with_label=True)
    read = [dataset.get_data_info(i)['img_file'].read_bytes() for i in range(2)]
    assert read == [b'one', b'two'] and list(dataset.get_gt_labels()) == [0, 1]


def test_missing_keys(tmp_path, caplog):
    write(tmp_path / 'a.tar', ('1.jpg', b'one'), ('1.cls', b'0'), ('2.cls', b'1'), ('3.jpg', b'x'))
    assert len(TarImages(str(tmp_path))) == 2  # pre-training needs no labels
    with pytest.raises(ValueError, match=r'1 of 2 images have no label, such as .*a\.tar/3\.jpg'):
        TarImages(str(tmp_path), with_label=True)
    write(tmp_path / 'a.tar', ('1.cls', b'cat'), ('1.jpg', b'one'))
    with pytest.raises(StoreError, match=r"a\.tar: 1\.cls is 'cat', not a class number"):
        TarImages(str(tmp_path))
    write(tmp_path / 'a.tar', ('1.jpg', b'one'), ('1.jpg', b'two'))
    with pytest.raises(StoreError, match=r'has two images 1\.jpg'):
        TarImages(str(tmp_path))
    write(tmp_path / 'a.tar', ('1.txt', b'one'), ('1.cls', b'0'))
    with pytest.raises(ValueError, match=r'1 \.txt, 1 sample without an image'):
        TarImages(str(tmp_path))


@pytest.mark.parametrize('on_error', ['raise', 'skip'])
@pytest.mark.parametrize('channels, message', [
    (6, 'it has 3 channels, not the 6'), (None, 'it is a TIFF of 6 bands'),
])  # fmt: skip
def test_other_channels_within_a_shard(tmp_path, on_error, channels, message):
    """The first image that does not fit is named, and never skipped."""
    tifffile = pytest.importorskip('tifffile')
    members = []
    for name, number in (('1.tif', 6), ('2.tif', 3)):
        file = io.BytesIO()
        pixels = np.full((20, 20, number), 7, np.uint8)
        tifffile.imwrite(file, pixels, photometric='minisblack', planarconfig='contig')
        members.append((name, file.getvalue()))
    write(tmp_path / 'a.tar', *members)
    load = LoadImage(on_error=on_error, channels=channels)
    dataset = TarImages(str(tmp_path), pipeline=[load])
    good, bad = (0, 1) if channels == 6 else (1, 0)
    assert dataset[good]['img'].shape == (20, 20, channels or 3)
    with pytest.raises(UnsupportedImageError, match=rf'a\.tar/{bad + 1}\.tif: {message}'):
        dataset[bad]


def test_labels_and_classes_must_fit(shards, tmp_path):
    with pytest.raises(ValueError, match='3 classes, metainfo 2'):
        TarImages(str(shards), with_label=True, metainfo=dict(classes=('a', 'b')))
    write(tmp_path / 'loose.tar', ('one.jpg', b'x'))
    with pytest.raises(ValueError, match=r'one\.jpg, have neither a label nor a class folder'):
        TarImages(str(tmp_path / 'loose.tar'), with_label=True)


def test_another_shard_of_the_same_name_is_counted_anew(shards):
    first = TarImages(str(shards))
    assert len(TarImages(str(shards))) == 12  # from what was kept
    shutil.copy(shards / '00.tar', shards / '01.tar')
    os.utime(shards / '01.tar', ns=(1, 1))
    second = TarImages(str(shards))
    names = [second.get_data_info(i)['img_path'].rsplit('/', 1)[1] for i in range(12)]
    assert names[:6] == names[6:]
    with pytest.raises(StoreError, match=r'01\.tar .*was replaced after it was counted|cut off'):
        for number in range(6, 12):
            first.get_data_info(number)['img_file'].read_bytes()


def test_a_shard_that_shrinks_while_it_is_read(shards):
    dataset = TarImages(str(shards), pipeline=[LoadImage(on_error='skip')])
    os.truncate(shards / '01.tar', 600)
    assert dataset[0]['img'].shape[2] == 3
    with pytest.raises(StoreError, match=r'cannot read image .*01\.tar/.*cut off, or was replaced'):
        dataset[11]  # not skipped: the shard is at fault


def test_no_shards(tmp_path):
    for place in (tmp_path, tmp_path / 'none', tmp_path / '*.tar', tmp_path / 'a.tar'):
        with pytest.raises(FileNotFoundError, match=r'no \.tar file at .*give a file'):
            TarImages(str(place))
    with pytest.raises(StoreError, match=r'looking up .*a-0\.tar failed \(FileNotFoundError'):
        TarImages(str(tmp_path), 'a-{0..3}.tar')
    with pytest.raises(ValueError, match='empty range'):
        TarImages(str(tmp_path), 'a-{3..0}.tar')


def test_more_processes_than_shards(image_tree, tmp_path):
    """One shard for four processes of two workers: each image is still seen once."""
    from mmengine.dataset import DefaultSampler

    write_tar(image_tree, tmp_path / 'one', shards=1)
    dataset, seen = TarImages(str(tmp_path / 'one')), []
    for rank in range(4):
        sampler = DefaultSampler(dataset, shuffle=True, seed=0)
        sampler.rank, sampler.world_size, sampler.num_samples = rank, 4, 3
        seen += list(sampler)
    assert sorted(seen) == list(range(12))


def test_zip(image_tree, tmp_path):
    path = tmp_path / 'a.zip'
    name, _, content = listed(image_tree)[0]
    with zipfile.ZipFile(path, 'w', zipfile.ZIP_BZIP2) as archive:
        archive.writestr(name, content)
    with pytest.raises(StoreError, match='compressed by method 12: zip the images anew'):
        ZipImages(str(path))
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr(name, content)
    dataset = ZipImages(str(path), pipeline=[LoadImage()])
    with path.open('r+b') as file:
        file.seek(200)
        file.write(b'??')
    with pytest.raises(RuntimeError, match='checksum of its zip entry is wrong'):
        dataset[0]
    os.truncate(path, 300)
    with pytest.raises(StoreError, match=r'a\.zip is cut off or damaged'):
        ZipImages(str(path))


def test_lmdb(tmp_path):
    lmdb = pytest.importorskip('lmdb')
    path = tmp_path / 'a.lmdb'
    with lmdb.open(str(path), map_size=2**22) as environment:
        with environment.begin(write=True) as transaction:
            for number in range(40):
                transaction.put(f'{number:03d}'.encode(), b'x' * 9000)
    with pytest.raises(ValueError, match='no image in the shards'):
        LMDBImages(str(path))
    assert len(LMDBImages(str(path), extensions=())) == 40
    from ibot_mm.datasets.stores.lmdb import close_environments

    close_environments()
    os.truncate(path / 'data.mdb', 65536)
    with pytest.raises(StoreError, match='cut off|not an LMDB'):
        LMDBImages(str(path), extensions=())


def test_parquet(tmp_path):
    pa = pytest.importorskip('pyarrow')
    from pyarrow import parquet

    path = tmp_path / 'a.parquet'
    rows = [dict(bytes=None, path='one.jpg'), dict(bytes=b'', path=None)]
    parquet.write_table(pa.table(dict(image=rows, label=['cat', 'dog'])), path)
    with pytest.raises(StoreError, match=r"no column 'img' but \['image', 'label'\]"):
        ParquetImages(str(path), image_column='img')
    with pytest.raises(StoreError, match="column 'label' does not hold class numbers"):
        ParquetImages(str(path))
    dataset = ParquetImages(str(path), label_column='', pipeline=[LoadImage()])
    with pytest.raises(StoreError, match=r'row 0 holds a path \(one\.jpg\) and not the image'):
        dataset[0]
    with pytest.raises(RuntimeError, match='the file is empty'):
        dataset[1]
    os.truncate(path, 100)
    with pytest.raises(StoreError, match=r'a\.parquet is cut off or damaged'):
        ParquetImages(str(path), label_column='')
