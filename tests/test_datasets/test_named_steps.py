# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
from mmengine.config import Config

from ibot_mm.datasets import ImageFolder
from ibot_mm.datasets.named_steps import list_steps

BASE = """
pipeline = dict(
    order=['load', 'crop', 'augment'],
    load=dict(type='LoadImage'), crop=dict(type='Crop', size=4), augment=dict(type='Augment'),
)
"""
CHILD = "_base_ = ['base.py']\npipeline = dict(load=None, crop=dict(size=8))"


def test_a_config_changes_and_removes_steps_by_name(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'child.py').write_text(CHILD)
    pipeline = Config.fromfile(tmp_path / 'child.py').pipeline
    assert list_steps(pipeline) == [dict(type='Crop', size=8), dict(type='Augment')]


def test_the_order_survives_the_config_that_mmengine_writes(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    cfg = Config.fromfile(tmp_path / 'base.py')
    cfg.dump(tmp_path / 'dumped.py')
    dumped = Config.fromfile(tmp_path / 'dumped.py').pipeline
    assert list(dumped) != list(cfg.pipeline)
    assert list_steps(dumped) == list_steps(cfg.pipeline)


def test_lists_stay_lists_and_marks_of_scopes_are_not_steps():
    steps = [dict(type='A'), dict(type='B')]
    assert list_steps(steps) == steps
    named = dict(a=steps[0], b=steps[1], order=['a', 'b'], _scope_='ibot_mm')
    assert list_steps(named) == steps


@pytest.mark.parametrize('order', [None, ['load'], ['load', 'crop', 'pack'], ['load', 'load']])
def test_an_order_that_does_not_name_each_step_once_is_refused(order):
    steps = dict(load=dict(type='LoadImage'), crop=dict(type='Crop'))
    with pytest.raises(ValueError, match='steps load, crop, and its order is'):
        list_steps(dict(steps, order=order))


@pytest.mark.parametrize('step', ['LoadImage', dict(size=4), 3])
def test_what_is_not_a_step_is_named(step):
    steps = dict(load=dict(type='LoadImage'), crop=step, order=['load', 'crop'])
    with pytest.raises(TypeError, match="Step 'crop' of the pipeline is .* steps are load, crop"):
        list_steps(steps)


def test_a_data_set_runs_named_steps_in_their_order(image_folder):
    pipeline = dict(
        order=['load', 'crops', 'pack'],
        pack=dict(type='ibot_mm.PackMultiCrop'),
        load=dict(type='ibot_mm.LoadImage'),
        crops=dict(type='ibot_mm.MultiCrop', global_crop_size=16, num_local_crops=0),
    )
    dataset = ImageFolder(str(image_folder), 'train', pipeline=pipeline)
    assert dataset[0]['inputs']['global_crops'].shape == (2, 3, 16, 16)
