# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from types import SimpleNamespace

import pytest
from mmengine.dataset import RepeatDataset

from ibot_mm.datasets import ImageFolder, TarImages
from ibot_mm.datasets.packing import pack_images
from ibot_mm.engine.hooks import ImageSizeHook
from ibot_mm.engine.hooks.image_sizes import _sample


@pytest.fixture
def warnings(image_folder, caplog):
    """Look at images of 40 x 32 pixels before crops of a size; give what is said."""

    def look(size, wrap=lambda dataset: dataset, shards=None):
        pipeline = [dict(type='ibot_mm.MultiCrop', global_crop_size=size)]
        if shards is None:
            dataset = wrap(ImageFolder(str(image_folder), data_prefix='train', pipeline=pipeline))
        else:
            dataset = TarImages(str(shards), pipeline=pipeline)
        runner = SimpleNamespace(
            train_dataloader=SimpleNamespace(dataset=dataset), logger=logging.getLogger('sizes')
        )
        caplog.clear()
        ImageSizeHook().before_train(runner)
        return [record.getMessage() for record in caplog.records]

    return look


def test_enlarged_images_are_one_warning(warnings):
    (message,) = warnings(48)
    assert message.startswith(
        '8 of 8 images looked at are smaller than the global crops of 48 x 48'
    )
    assert 'one of them 32 x 40' in message and 'img_size' in message


def test_below_a_wrapper(warnings):
    assert len(warnings(48, lambda dataset: RepeatDataset(dataset, 3))) == 1


@pytest.mark.parametrize('size', [16, 32])
def test_no_warning_where_images_are_large_enough(warnings, size):
    assert not warnings(size)


def test_other_data_sets_are_passed_over(warnings):
    assert not warnings(48, lambda dataset: SimpleNamespace(pipeline=dataset.pipeline))


def test_images_in_stores(warnings, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    pack_images(str(image_folder / 'train'), tmp_path / 'shards', images_per_shard=3, num_workers=1)
    (message,) = warnings(48, shards=tmp_path / 'shards')
    assert message.startswith('8 of 8 images looked at') and 'one of them 32 x 40' in message
    assert not warnings(32, shards=tmp_path / 'shards')


@pytest.mark.parametrize('number', [1, 40, 64, 100, 1_000_000])
def test_of_a_large_store_few_places_are_read(number):
    spread, grouped = (list(_sample(number, neighbors)) for neighbors in (1, 16))
    for chosen in (spread, grouped):
        assert len(chosen) == len(set(chosen)) == min(number, 64) and max(chosen) < number
    assert len({image // 16 for image in grouped if number > 100}) <= 8
