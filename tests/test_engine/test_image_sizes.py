# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from types import SimpleNamespace

import pytest
from mmengine.dataset import RepeatDataset

from ibot_mm.datasets import ImageFolder
from ibot_mm.engine.hooks import ImageSizeHook


@pytest.fixture
def warnings(image_folder, caplog):
    """Look at images of 40 x 32 pixels before crops of a size; give what is said."""

    def look(size, wrap=lambda dataset: dataset):
        pipeline = [dict(type='ibot_mm.MultiCrop', global_crop_size=size)]
        dataset = wrap(ImageFolder(str(image_folder), data_prefix='train', pipeline=pipeline))
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
