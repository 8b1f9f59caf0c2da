# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A folder of class folders, written into every kind of store."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from mmengine.dataset import DefaultSampler, default_collate
from torch.utils.data import DataLoader

from ibot_mm.datasets import (
    ImageFolder,
    LMDBImages,
    LoadImage,
    MultiCrop,
    PackMultiCrop,
    ParquetImages,
    SeededBatchSampler,
    TarImages,
    ZipImages,
)

CLASSES = ('apple', 'b-c', 'b')  # with labels a folder has 'b' before 'b-c', without behind


def listed(root):
    """(name, label, content) of all images, in the folder's order with labels."""
    folder = ImageFolder(str(root), with_label=True)
    infos = [folder.get_data_info(i) for i in range(len(folder))]
    paths = [Path(info['img_path']) for info in infos]
    return [
        (str(path.relative_to(root)), info['gt_label'], path.read_bytes())
        for path, info in zip(paths, infos, strict=True)
    ]


def add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tar(root, out, shards=2):
    images = listed(root)
    out.mkdir(parents=True)
    size = -(-len(images) // shards)
    for shard in range(shards):
        with tarfile.open(out / f'{shard:02d}.tar', 'w') as tar:
            part = list(enumerate(images))[shard * size : (shard + 1) * size]
            for number, (name, label, content) in part:
                add(tar, f'{number:04d}.{name.rsplit(".")[-1].lower()}', content)
                add(tar, f'{number:04d}.cls', str(label).encode())
    return dict(data_root=str(out), metainfo=dict(classes=tuple(sorted(CLASSES))))


def write_zip(root, out):
    out.mkdir(parents=True)
    with zipfile.ZipFile(out / 'train.zip', 'w') as archive:
        for number, (name, _, content) in enumerate(reversed(listed(root))):
            archive.writestr(name, content, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[number % 2])
        archive.writestr('b/notes.txt', 'no image')
    return dict(data_root=str(out), data_prefix='train.zip')


def write_lmdb(root, out):
    lmdb = pytest.importorskip('lmdb')
    out.mkdir(parents=True)
    environment = lmdb.open(str(out / 'train.lmdb'), map_size=2**24)
    with environment.begin(write=True) as transaction:
        for name, _, content in listed(root):
            transaction.put(name.encode(), content)
        transaction.put(b'__len__', b'12')
    environment.close()
    return dict(data_root=str(out / 'train.lmdb'))


def table_of(root):
    pa = pytest.importorskip('pyarrow')
    images = listed(root)
    rows = [dict(bytes=content, path=name) for name, _, content in images]
    names = dict(names=sorted(CLASSES), _type='ClassLabel')
    about = dict(info=dict(features=dict(image=dict(_type='Image'), label=names)))
    table = pa.table(dict(image=rows, label=[label for _, label, _ in images]))
    return table.replace_schema_metadata({'huggingface': json.dumps(about)})


def write_parquet(root, out):
    table = table_of(root)
    from pyarrow import parquet

    out.mkdir(parents=True)
    parquet.write_table(table.slice(0, 7), out / 'train-0.parquet', row_group_size=3)
    parquet.write_table(table.slice(7), out / 'train-1.parquet')
    return dict(data_root=str(out), data_prefix='train-*.parquet')


def write_arrow(root, out):
    table = table_of(root)
    import pyarrow as pa

    out.mkdir(parents=True)
    with pa.OSFile(str(out / 'data.arrow'), 'wb') as file:
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
    return dict(data_root=str(out))


KINDS = {
    'tar': (TarImages, write_tar),
    'zip': (ZipImages, write_zip),
    'lmdb': (LMDBImages, write_lmdb),
    'parquet': (ParquetImages, write_parquet),
    'arrow': (ParquetImages, write_arrow),
}


def pipeline():
    """Crops that are drawn, of images that may be broken."""
    return [LoadImage(on_error='skip'), MultiCrop(2, 16, num_local_crops=1), PackMultiCrop()]


def batches_of(dataset, num_workers=0, skip=0):
    """Load two epochs of shuffled batches of four; returns crops, and what was skipped."""
    sampler = SeededBatchSampler(DefaultSampler(dataset, shuffle=True, seed=3), 4)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=default_collate,
        num_workers=num_workers,
    )
    sampler.skip(skip)
    batches = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        batches += list(loader)
    return [
        (
            batch['inputs']['global_crops'].numpy(),
            batch['inputs']['local_crops'].numpy(),
            [len(sample.get('skipped_images', [])) for sample in batch['data_samples']],
        )
        for batch in batches
    ]
