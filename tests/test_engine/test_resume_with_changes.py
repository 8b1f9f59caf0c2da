# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Trainings that go on with another config, and in loops of iterations."""

import pytest

from ibot_mm.engine.checkpointing import CheckpointFileError, list_checkpoints
from ibot_mm.engine.checkpointing.compare import first_difference

pytestmark = pytest.mark.slow


def values(runner, name):
    return runner.message_hub.get_scalar(f'train/{name}').data[0]


def test_numbers_come_from_the_config_and_differences_are_listed_once(
    short_config, stop, train, tmp_path, monkeypatch
):
    """Longer, with another rate, decay and batch, it follows the schedule that the config says."""
    stop(short_config, 6)
    short_config.resume = False
    short_config.merge_from_dict(
        {
            'train_cfg.max_epochs': 6,
            'optim_wrapper.optimizer.lr': 0.123,
            'train_dataloader.batch_size': 4,  # two iterations an epoch instead of three
            'auto_scale_lr.enable': False,
        }
    )
    work_dir, short_config.work_dir = short_config.work_dir, str(tmp_path / 'fresh')
    fresh = train(short_config)
    short_config.update(work_dir=work_dir, resume=True)
    resumed = train(short_config)
    assert (resumed.epoch, resumed.iter) == (6, 12)
    assert len(values(resumed, 'loss')) == 6 + 8
    for name in ('lr', 'weight_decay', 'teacher_momentum'):
        assert values(resumed, name)[-8:] == pytest.approx(values(fresh, name)[-8:], rel=1e-12)
    log = next((tmp_path / 'work_dir').glob(f'{resumed.timestamp}/*.log')).read_text()
    assert log.count("Settings that differ from the checkpoint's") == 1
    assert 'optim_wrapper.optimizer.lr: 0.002 -> 0.123' in log
    assert 'train_cfg.max_epochs: 4 -> 6: the run ends there' in log
    assert 'model.' not in log.split('Settings that differ')[1].split('\n\n')[0].split(' - ')[0]


def test_the_scaled_rate_of_another_batch_is_not_that_of_the_checkpoint(
    short_config, stop, train, tmp_path
):
    """mmengine logs the scaled rate and takes the checkpoint's."""
    short_config.auto_scale_lr = dict(base_batch_size=3, enable=True)
    stop(short_config, 6)
    short_config.train_dataloader.batch_size = 6
    short_config.resume = True
    resumed = train(short_config)
    short_config.update(work_dir=str(tmp_path / 'fresh'), resume=False)
    fresh = train(short_config)
    assert fresh.optim_wrapper.param_groups[0]['initial_lr'] == pytest.approx(2 * 0.002)
    assert fresh.iter == resumed.iter == 8
    for name in ('lr', 'weight_decay', 'teacher_momentum'):
        assert values(resumed, name)[-4:] == pytest.approx(values(fresh, name)[-4:], rel=1e-12)


@pytest.mark.parametrize(('before', 'after'), [(1, 3), (2, 1), (2, 3)])
def test_another_accumulation_ends_where_the_config_says(
    short_config, stop, train, tmp_path, before, after
):
    short_config.optim_wrapper.accumulative_counts = before
    stop(short_config, 7)
    short_config.optim_wrapper.accumulative_counts = after
    short_config.resume = True
    resumed = train(short_config)
    assert (resumed.epoch, resumed.iter) == (4, 12)
    short_config.update(work_dir=str(tmp_path / 'fresh'), resume=False)
    fresh = train(short_config)
    for name in ('lr', 'weight_decay'):
        assert values(resumed, name)[7:] == pytest.approx(values(fresh, name)[7:], rel=1e-12)
    steps = [step for step in range(8, 13) if step % after == 0 or step == 12]
    momenta = values(resumed, 'teacher_momentum')[-len(steps) :]
    assert momenta == pytest.approx(values(fresh, 'teacher_momentum')[-len(steps) :], rel=1e-12)


def test_what_does_not_fit_is_refused_with_the_way_out(short_config, stop, train):
    stop(short_config, 2)
    short_config.resume = True
    short_config.model.neck.num_prototypes = short_config.model.head.num_prototypes = 20
    with pytest.raises(CheckpointFileError, match=r'of another model .*shape \(20.*load_from='):
        train(short_config)
    short_config.model.neck.num_prototypes = short_config.model.head.num_prototypes = 24
    short_config.optim_wrapper.update(
        constructor='ibot_mm.LayerDecayConstructor', paramwise_cfg=dict(layer_decay_rate=0.8)
    )
    with pytest.raises(CheckpointFileError, match='moments for groups of'):
        train(short_config)


@pytest.fixture
def by_iterations(short_config, monkeypatch):
    """The same training counted in iterations."""
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    cfg = short_config
    cfg.train_cfg = dict(type='ibot_mm.IterBasedTrainLoop', max_iters=12, val_interval=100)
    for schedule in cfg.param_scheduler:
        schedule.update(by_epoch=False, convert_to_iter_based=False)
    cfg.default_hooks.temperature.warmup_epochs = 1
    cfg.default_hooks.checkpoint.by_epoch = False
    return cfg


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_another_batch_size_goes_on_with_the_next_image_each_time(
    by_iterations, train, stop, keep_views, tmp_path, sampler
):
    """Of 8 images: 2 batches of 2, then 2 of 4, then batches of 2 again."""
    loader = by_iterations.train_dataloader
    loader.batch_sampler.drop_last = True
    loader.sampler.type, loader.batch_size = sampler, 2
    by_iterations.work_dir = str(tmp_path / 'whole')
    train(by_iterations, keep_views(expected := []))
    by_iterations.work_dir = str(tmp_path / 'stopped')
    found = []
    for batch_size, end in ((2, 2), (4, 4), (2, 8)):
        loader.batch_size = batch_size
        content = stop(by_iterations, end, resume=True, hooks=[keep_views(found)])
    assert found == expected[: 2 * 2 + 2 * 4 + 4 * 2]
    assert content['meta']['images_seen'] == len(found)


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_loops_of_iterations_go_on_too(by_iterations, stop, sampler, tmp_path):
    cfg = by_iterations
    cfg.train_dataloader.sampler.type = sampler
    cfg.default_hooks.checkpoint.update(interval=2, max_keep_ckpts=1)
    cfg.work_dir = str(tmp_path / 'whole')
    whole = stop(cfg, 9)
    assert [path.name for path in list_checkpoints(cfg.work_dir)] == ['iter_9.pth']
    cfg.work_dir = str(tmp_path / 'stopped')
    stop(cfg, 5)
    assert first_difference(whole, stop(cfg, 9, resume=True)) is None


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_mmengines_loop_of_iterations_goes_on(by_iterations, stop, tmp_path, sampler):
    by_iterations.train_cfg.type = 'IterBasedTrainLoop'
    by_iterations.train_dataloader.sampler.type = sampler
    by_iterations.work_dir = str(tmp_path / 'whole')
    whole = stop(by_iterations, 9)
    by_iterations.work_dir = str(tmp_path / 'stopped')
    stop(by_iterations, 5)
    assert first_difference(whole, stop(by_iterations, 9, resume=True)) is None
