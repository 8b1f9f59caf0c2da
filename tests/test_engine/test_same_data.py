# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Processes, and runs, that see different data."""

import logging
import os
import shutil
from types import SimpleNamespace

import pytest
from mmengine.dataset import ConcatDataset
from mmengine.logging import MessageHub

from ibot_mm.datasets import ImageFolder, TarImages
from ibot_mm.datasets.packing import pack_images
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.hooks import SameDataHook
from ibot_mm.training import run_training


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='module')
def shards(image_folder, tmp_path_factory):
    """Eight images in four shards."""
    out = tmp_path_factory.mktemp('packed') / 'train'
    pack_images(str(image_folder / 'train'), out, images_per_shard=2, num_workers=1)
    return out


@pytest.fixture
def start(tmp_path):
    """Begin, or go on with, a training on a data set; returns the hub."""
    hub = MessageHub.get_instance(f'same data {tmp_path}')

    def run(dataset, iteration=0, order='', **options):
        sampler = SimpleNamespace(order_depends_on=order)
        loader = SimpleNamespace(dataset=dataset, batch_sampler=SimpleNamespace(sampler=sampler))
        runner = SimpleNamespace(
            train_dataloader=loader,
            train_loop=SimpleNamespace(dataloader=[None] * 4),
            message_hub=hub,
            iter=iteration,
            logger=logging.getLogger('same data'),
        )
        SameDataHook(**options).before_train(runner)

    return run


def test_processes_are_compared(shards, start, monkeypatch):
    short = TarImages(str(shards), indices=6)
    other = dict(images=8, fingerprint='ffff', order='')
    monkeypatch.setattr(
        'ibot_mm.engine.hooks.same_data.all_gather_object', lambda data: [other, data]
    )
    with pytest.raises(RuntimeError, match=r'(?s)process 0: 8 images, ffff.*process 1: 6 images, '):
        start(short)
    with pytest.raises(RuntimeError, match='process 1: 8 images, [0-9a-f]{16}'):
        start(TarImages(str(shards)))  # as many, but others


@pytest.mark.parametrize('iteration', [4, 6])
def test_other_shards_after_a_resume(shards, start, caplog, iteration):
    start(TarImages(str(shards)))
    start(TarImages(str(shards)), iteration)
    assert not caplog.records
    fewer = TarImages(str(shards / '00000{0..2}.tar'))
    if iteration == 4:  # an epoch has four iterations
        start(fewer, 4)
        assert 'training data have changed: the checkpoint is of 8 images' in caplog.text
        return
    with pytest.raises(RuntimeError, match=r'within an epoch of other .*8 images.* now 6 images'):
        start(fewer, 6)
    start(fewer, 6, on_change='warn')
    assert 'trained on twice, or not at all' in caplog.text


def test_another_order_within_an_epoch(shards, start, caplog):
    start(TarImages(str(shards)), order='2 processes')
    start(TarImages(str(shards)), 4, order='3 processes')
    assert not caplog.records
    with pytest.raises(RuntimeError, match='3 processes, and now .*4 processes'):
        start(TarImages(str(shards)), 5, order='4 processes')


def test_within_other_data_sets(shards, image_folder, start):
    folder = ImageFolder(str(image_folder), 'train')
    start(ConcatDataset([folder, TarImages(str(shards))], ignore_keys=['classes']))
    with pytest.raises(RuntimeError, match='other training data'):
        start(ConcatDataset([folder, folder]), 1)
    with pytest.raises(ValueError, match="must be 'raise' or 'warn', got 'skip'"):
        SameDataHook('skip')


@pytest.mark.slow
@pytest.mark.parametrize('sampler', ['DefaultSampler', 'ibot_mm.ShardSampler'])
def test_a_training_on_shards_is_that_on_the_folder_and_resumes_exactly(
    short_config, stop, train, shards, tmp_path, sampler
):
    short_config.train_dataloader.sampler = dict(type=sampler, shuffle=True)
    short_config.work_dir = str(tmp_path / 'folder')
    of_folder = stop(short_config, 12)
    dataset = short_config.train_dataloader.dataset
    dataset.update(type='ibot_mm.TarImages', data_root=str(shards), data_prefix='')
    short_config.work_dir = str(tmp_path / 'shards')
    whole = stop(short_config, 12)
    if sampler == 'DefaultSampler':
        assert first_difference(of_folder['state_dict'], whole['state_dict']) is None
    short_config.work_dir = str(tmp_path / 'stopped')
    stop(short_config, 7)
    assert first_difference(whole, stop(short_config, 12, resume=True)) is None
    short_config.work_dir = str(tmp_path / 'again')
    stop(short_config, 7)
    shutil.copytree(shards, tmp_path / 'other')
    dataset.update(data_root=str(tmp_path / 'other'), data_prefix='00000{0..2}.tar')
    short_config.resume = True
    with pytest.raises(RuntimeError, match='within an epoch of other training data'):
        train(short_config)


def train_in_process(cfg, places):
    """A process of a training on shards that lie at a place of its own."""
    place = places[int(os.environ['RANK'])]
    cfg.train_dataloader.dataset.update(
        type='ibot_mm.TarImages', data_root=str(place), data_prefix=''
    )
    cfg.launcher = 'pytorch'
    run_training(cfg)


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['same', 'fewer', 'another'])
def test_processes_on_machines_with_their_own_shards(
    tiny_config, run_together, shards, image_folder, tmp_path, kind
):
    own = tmp_path / 'own'
    if kind == 'another':  # as many images, in as many shards
        pack_images(str(image_folder), own, images_per_shard=2, num_workers=1)
        own = own / '00000{0..3}.tar'
    else:
        shutil.copytree(shards, own)
        own = own / '00000{0..2}.tar' if kind == 'fewer' else own
    tiny_config.train_dataloader.batch_size = 2
    first, second = run_together(train_in_process, tiny_config, [shards, own])
    if kind == 'same':
        assert [first.status, second.status] == [0, 0], first.text + second.text
        return
    numbers = dict(fewer=6, another=8)
    for process in (first, second):
        assert process.status == 1, process.text
        assert 'The processes see different training data' in process.text
        assert 'process 0: 8 images' in process.text
        assert f'process 1: {numbers[kind]} images' in process.text
    assert not list((tmp_path / 'work_dir').glob('*.pth'))
