# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training that is stopped anywhere and resumed is the uninterrupted one, bit for bit."""

import os
import random
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.hooks import Hook

from ibot_mm.engine.checkpointing import (
    CheckpointFileError,
    find_newest,
    list_checkpoints,
    read_checkpoint,
)
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.resume import _restore_seed
from ibot_mm.engine.checkpointing.stopping import TrainingStopped
from ibot_mm.engine.loops import SkippingBatchSampler

pytestmark = pytest.mark.slow


def places(seed, count=2, end=11):
    return sorted(random.Random(seed).sample(range(1, end), count))


VARIANTS = {
    'plain': {},
    'workers': {'train_dataloader.num_workers': 2, 'train_dataloader.persistent_workers': True},
    'one worker, bf16': {
        'train_dataloader.num_workers': 1,
        'optim_wrapper.dtype': 'bfloat16',
    },
    'accumulation': {'optim_wrapper.accumulative_counts': 2},
    'validation': {'train_cfg.val_interval': 1},
    'skipped steps, patch embedding': {
        'default_hooks.finite_loss': dict(type='ibot_mm.SkipBadStepsHook'),
        'default_hooks.patch_embedding': dict(type='ibot_mm.FreezePatchEmbeddingHook'),
    },
}


@pytest.mark.parametrize('variant', VARIANTS)
def test_resumed_anywhere_is_the_uninterrupted_run(short_config, stop, variant, tmp_path):
    short_config.merge_from_dict(VARIANTS[variant])
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11)
    short_config.work_dir = str(tmp_path / 'stopped')
    first, second = places(list(VARIANTS).index(variant))
    stop(short_config, first)
    stop(short_config, second, resume=True)
    resumed = stop(short_config, 11, resume=True)
    assert first_difference(whole, resumed) is None, (first, second)


def wrapped(kind):
    """The data of a config in one of mm's wrappers, or with repeated augmentation."""

    def change(loader):
        dataset = loader.dataset
        if kind == 'RepeatAugSampler':
            loader.sampler = dict(type='mmpretrain.RepeatAugSampler')
        elif kind == 'ConcatDataset':
            loader.dataset = dict(type=kind, datasets=[dataset, dataset])
        else:
            options = dict(times=2) if kind == 'RepeatDataset' else dict(oversample_thr=0.9)
            dataset.with_label = kind == 'ClassBalancedDataset'
            loader.dataset = dict(type=kind, dataset=dataset, **options)

    return change


@pytest.mark.parametrize(
    'kind', ['RepeatDataset', 'ConcatDataset', 'ClassBalancedDataset', 'RepeatAugSampler']
)
def test_wrapped_data_go_on_with_views_that_were_not_seen(
    short_config, stop, keep_views, tmp_path, kind
):
    wrapped(kind)(short_config.train_dataloader)
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11, hooks=[keep_views(expected := [])])
    short_config.work_dir = str(tmp_path / 'stopped')
    stop(short_config, 7, hooks=[keep_views(found := [])])
    resumed = stop(short_config, 11, resume=True, hooks=[keep_views(found)])
    assert first_difference(whole, resumed) is None
    assert found == expected and len(set(views for _, views in found)) == len(found)


class Crash(Exception):
    """Of a process that is killed: nothing is saved."""


class CrashAt(Hook):
    def __init__(self, iteration):
        self.iteration = iteration

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration:
            raise Crash


@pytest.mark.parametrize(
    ('options', 'names'),
    [
        (dict(by_epoch=False, interval=2), 'iter_8 iter_6 iter_4 iter_2'),
        (dict(by_epoch=True, interval=2), 'epoch_2'),
        (
            dict(minutes=1e-9),
            'epoch_2_iter_2 epoch_2_iter_1 epoch_1_iter_3 epoch_1_iter_2 epoch_1_iter_1 '
            'epoch_0_iter_3 epoch_0_iter_2 epoch_0_iter_1',
        ),
    ],
)
def test_checkpoints_of_any_interval_go_on_after_a_crash(
    short_config, train, stop, tmp_path, options, names
):
    short_config.optim_wrapper.accumulative_counts = 2
    short_config.default_hooks.checkpoint.update(options, max_keep_ckpts=-1)
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11)
    short_config.work_dir = str(tmp_path / 'stopped')
    for iteration in (7, 8):
        with pytest.raises(Crash):
            train(short_config, CrashAt(iteration))
        short_config.resume = True
    assert [path.stem for path in list_checkpoints(short_config.work_dir)] == names.split()
    assert first_difference(whole, stop(short_config, 11, resume=True)) is None


def test_skipped_images_between_two_reports_are_not_forgotten(short_config, stop, tmp_path):
    (tmp_path / 'images/train/class_0').mkdir(parents=True)
    root = Path(short_config.train_dataloader.dataset.data_root)
    for path in root.glob('train/*/*.jpg'):
        (tmp_path / f'images/train/class_0/{path.parent.name}_{path.name}').symlink_to(path)
    (tmp_path / 'images/train/class_0/broken.jpg').write_bytes(b'broken')
    dataset = short_config.train_dataloader.dataset
    dataset.data_root = str(tmp_path / 'images')
    dataset.pipeline.load.on_error = 'skip'
    short_config.default_hooks.skipped_images.max_share = 1.0
    short_config.val_dataloader = short_config.val_cfg = short_config.val_evaluator = None
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11)
    assert whole['message_hub']['runtime_info']['skipped_images'] >= 3
    short_config.work_dir = str(tmp_path / 'stopped')
    for place in (1, 2, 4, 5, 8):
        stop(short_config, place, resume=True)
    resumed = stop(short_config, 11, resume=True)
    assert first_difference(whole, resumed) is None
    names = (tmp_path / 'stopped/skipped_images.txt').read_text()
    assert names.count('\n') == 1 and 'broken.jpg' in names


class StopWithin(Hook):
    """Sends a signal while the training validates or saves after its second epoch."""

    priority = 'VERY_HIGH'

    def __init__(self, place):
        self.place = place

    def _signal_in(self, place, epoch):
        if (place, epoch) == (self.place, 2):
            self.place = None
            os.kill(os.getpid(), signal.SIGTERM)

    def before_save_checkpoint(self, runner, checkpoint):
        self._signal_in('a save', checkpoint['meta']['epoch'])

    def after_val_iter(self, runner, *args, **kwargs):
        self._signal_in('a validation', runner.epoch)

    def after_val_epoch(self, runner, metrics=None):
        self._signal_in('the end of a validation', runner.epoch)


@pytest.mark.parametrize('place', ['a save', 'a validation', 'the end of a validation'])
def test_stopped_in_a_validation_or_a_save(short_config, train, tmp_path, place):
    short_config.merge_from_dict({'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 1})
    short_config.default_hooks.checkpoint.update(
        interval=1, max_keep_ckpts=-1, save_best='knn/top1_k1', rule='greater'
    )
    short_config.work_dir = str(tmp_path / 'whole')
    train(short_config)
    short_config.work_dir = str(tmp_path / 'stopped')
    with pytest.raises(TrainingStopped):
        train(short_config, StopWithin(place))
    names = [path.name for path in list_checkpoints(short_config.work_dir)]
    assert names == ['epoch_2.pth', 'epoch_1.pth']
    short_config.resume = True
    runner = train(short_config)
    ends = [read_checkpoint(tmp_path / name / 'epoch_3.pth') for name in ('whole', 'stopped')]
    assert first_difference(*ends) is None
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert ('Validating first' in log) == (place != 'the end of a validation')
    assert len(runner.message_hub.get_scalar('val/knn/top1_k1').data[0]) == 3


def test_any_signal_saves_and_the_log_history_goes_on(short_config, stop, tmp_path, train):
    for number, name in (
        (signal.SIGTERM, 'epoch_1_iter_2.pth'),
        (signal.SIGINT, 'epoch_1_iter_3.pth'),
    ):
        before = signal.getsignal(number)
        content = stop(short_config, 5 if number == signal.SIGTERM else 6, number, resume=True)
        assert find_newest(short_config.work_dir)[0].name == name
        assert (tmp_path / 'work_dir/last_checkpoint').read_text() == name
        assert signal.getsignal(number) is before
    assert len(content['log_history']['train/loss']['values']) == 6


def test_without_a_seed_the_first_run_s_goes_on(short_config, stop, tmp_path):
    short_config.randomness = dict(seed=None)
    first = stop(short_config, 4)
    resumed = stop(short_config, 8, resume=True)
    assert first['meta']['seed'] == resumed['meta']['seed'] is not None
    short_config.update(
        work_dir=str(tmp_path / 'whole'), randomness=dict(seed=first['meta']['seed'])
    )
    assert first_difference(stop(short_config, 8), resumed) is None


def test_the_seed_of_the_first_run_reaches_sampler_and_batches():
    sampler, batches = SimpleNamespace(seed=1), SimpleNamespace(seed=1)
    batches.sampler = sampler
    for loader in (batches, SkippingBatchSampler(batches)):
        sampler.seed = batches.seed = 1
        runner = SimpleNamespace(
            _randomness_cfg=dict(seed=None),
            set_randomness=lambda **options: None,
            train_dataloader=SimpleNamespace(batch_sampler=loader, sampler=None),
        )
        _restore_seed(runner, dict(seed=7))
        assert (sampler.seed, batches.seed) == (7, 7)


def test_schedules_of_mmengine_follow_the_config_too(short_config, stop, train, tmp_path):
    """Chained schedules are stepped again, by epochs and by iterations."""
    short_config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=4),
        dict(type='MultiStepLR', milestones=[2, 3], gamma=0.5, by_epoch=True),
    ]
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11)
    short_config.work_dir = str(tmp_path / 'stopped')
    stop(short_config, 7)
    resumed = stop(short_config, 11, resume=True)
    difference = first_difference(whole, dict(resumed, param_schedulers=whole['param_schedulers']))
    assert difference is None


def test_mmengines_loop_of_epochs_goes_on_between_epochs_and_says_so_within(
    short_config, train, stop, tmp_path
):
    short_config.train_cfg.type = 'EpochBasedTrainLoop'
    short_config.default_hooks.checkpoint.interval = 1
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 10)
    short_config.work_dir = str(tmp_path / 'stopped')
    with pytest.raises(Crash):
        train(short_config, CrashAt(7))
    assert first_difference(whole, stop(short_config, 10, resume=True)) is None
    with pytest.raises(CheckpointFileError, match='in mid-epoch .1 of 3.*ibot_mm.EpochBased'):
        stop(short_config, 11, resume=True)
