# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training that is stopped anywhere and resumed is the uninterrupted one, bit for bit."""

import os
import random
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from ibot_mm.engine.checkpointing import (
    CheckpointFileError,
    find_newest,
    list_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.resume import _restore_seed
from ibot_mm.engine.checkpointing.stopping import TrainingStopped
from ibot_mm.engine.distributed import prepare_cpu_processes
from ibot_mm.engine.loops import SkippingBatchSampler
from ibot_mm.registry import HOOKS


class Stop(Hook):
    def __init__(self, iteration, number=signal.SIGUSR1):
        self.iteration, self.number = iteration, number

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def short_config(tiny_config):
    """Three iterations an epoch, four epochs, nothing saved by interval."""
    tiny_config.train_dataloader.batch_size = 3
    tiny_config.train_dataloader.batch_sampler.drop_last = False
    tiny_config.train_cfg.max_epochs = 4
    tiny_config.default_hooks.checkpoint.update(interval=-1, save_last=False)
    return tiny_config


@pytest.fixture
def stop(train):
    """Train up to an iteration, stopped by a signal; the content of what that saves."""

    def run(cfg, iteration, number=signal.SIGUSR1, resume=False, hooks=()):
        cfg.resume = resume
        with pytest.raises(TrainingStopped) as stopped:
            train(cfg, Stop(iteration, number), *hooks)
        assert stopped.value.code == 75
        return read_checkpoint(find_newest(cfg.work_dir)[0])

    return run


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


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.parametrize(
    'kind', ['RepeatDataset', 'ConcatDataset', 'ClassBalancedDataset', 'RepeatAugSampler']
)
def test_wrapped_data_go_on_with_views_that_were_not_seen(short_config, stop, tmp_path, kind):
    wrapped(kind)(short_config.train_dataloader)
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11, hooks=[Views(expected := [])])
    short_config.work_dir = str(tmp_path / 'stopped')
    stop(short_config, 7, hooks=[Views(found := [])])
    resumed = stop(short_config, 11, resume=True, hooks=[Views(found)])
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


class Improve(Hook):
    """Makes each validation better than the one before."""

    priority = 'VERY_HIGH'

    def after_val_epoch(self, runner, metrics=None):
        metrics['knn/top1_k1'] = float(runner.epoch)


def test_the_best_checkpoint_is_replaced_after_the_better_one_is_saved(
    short_config, train, monkeypatch
):
    short_config.train_cfg.update(max_epochs=3, val_interval=1)
    short_config.default_hooks.checkpoint.update(save_best='knn/top1_k1', rule='greater')
    best = 'best_knn_top1_k1_epoch_{}.pth'
    present = []

    def write(content, path):
        present.append(sorted(p.name for p in Path(path).parent.glob('best*')))
        write_checkpoint(content, path)

    monkeypatch.setattr('ibot_mm.engine.checkpointing.save.write_checkpoint', write)
    runner = train(short_config, Improve())
    assert present == [[], [best.format(1)], [best.format(2)]]
    names = [path.name for path in Path(runner.work_dir).glob('best*')]
    assert names == [best.format(3)]
    assert runner.message_hub.get_info('best_ckpt').endswith(names[0])


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


def test_a_used_folder_is_never_trained_in_from_scratch(short_config, stop, train, tmp_path):
    stop(short_config, 2)
    short_config.default_hooks.checkpoint.start_again = False
    with pytest.raises(CheckpointFileError, match='1 checkpoints .* --resume.* --start-again'):
        train(short_config)
    (tmp_path / 'work_dir').rename(tmp_path / 'moved')  # paths are relative
    (tmp_path / 'moved/last_checkpoint').unlink()
    short_config.work_dir = str(tmp_path / 'moved')
    damaged = tmp_path / 'moved/epoch_3.pth'
    damaged.write_bytes(b'PK')
    stop(short_config, 4, resume=True)
    assert not damaged.exists() and next((tmp_path / 'moved').glob('before_*/epoch_3.pth'))
    for path in list_checkpoints(short_config.work_dir):
        path.write_bytes(b'')
    with pytest.raises(CheckpointFileError, match='None of the 2 .* is valid .*is empty'):
        train(short_config)


class Spoil(Hook):
    """Makes a part of the state, not the loss, infinite in the last iteration of an epoch."""

    priority = 'VERY_LOW'

    def __init__(self, part, rank=0):
        self.part, self.rank = part, rank

    def before_train_iter(self, runner, *args, **kwargs):
        if self.part == 'gradient' and runner.iter == 5 and get_rank() == self.rank:
            weight = runner.model.get_parameter('backbone.layers.1.ffn.layers.1.weight')
            weight.register_hook(lambda gradient: gradient * float('nan'))

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter != 5 or get_rank() != self.rank:
            return
        model = getattr(runner.model, 'module', runner.model)
        if self.part == 'teacher':
            model.teacher.get_parameter('backbone.pos_embed').data[0, 0, 0] = float('nan')
        elif self.part == 'center':
            model.head.patch_center.view(-1)[0] = float('inf')
        elif self.part == 'moment':
            state = runner.optim_wrapper.optimizer.state[model.backbone.cls_token]
            state['exp_avg_sq'].fill_(float('inf'))


@pytest.mark.parametrize(
    ('part', 'name'),
    [
        ('gradient', 'backbone.layers.1.ffn.layers.1.weight'),
        ('teacher', 'teacher.backbone.pos_embed'),
        ('center', 'head.patch_center'),
        ('moment', 'exp_avg_sq of backbone.cls_token'),
    ],
)
def test_a_state_that_is_not_finite_is_never_a_checkpoint(
    short_config, train, tmp_path, part, name
):
    short_config.default_hooks.checkpoint.interval = 1
    message = rf'rank 0: \d+ of \d+ tensors, first {name}\).* good .*epoch_1.pth'
    with pytest.raises(FloatingPointError, match=message):
        train(short_config, Spoil(part))
    work_dir = tmp_path / 'work_dir'
    assert [path.name for path in list_checkpoints(work_dir)] == ['epoch_1.pth']
    assert (work_dir / 'last_checkpoint').read_text() == 'epoch_1.pth'
    assert (work_dir / 'nonfinite_epoch_2.pth').exists()
    short_config.resume = True
    assert train(short_config).iter == 12  # from epoch_1.pth


def test_a_state_that_is_not_finite_in_one_process_ends_both(
    short_config, train, tmp_path, run_together
):
    short_config.default_hooks.checkpoint.interval = 1
    short_config.launcher = 'pytorch'
    prepare, spoil = prepare_cpu_processes, Spoil('center', rank=1)
    group = run_together(lambda: (prepare(short_config), train(short_config, spoil)))
    for one in group:
        assert one.status == 1
        assert re.search(r'FloatingPointError.*rank 1: 1 of .*head.patch_center', one.text)
    names = [path.name for path in list_checkpoints(short_config.work_dir)]
    assert names == ['epoch_2.pth', 'epoch_1.pth']  # of two iterations each


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


class Views(Hook):
    """Keeps what was read, image by image."""

    def __init__(self, values):
        self.values = values

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for sample, row in zip(data_batch['data_samples'], data_batch['inputs']['augmentation']):
            self.values.append((sample.img_path, tuple(row.flatten().tolist())))


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
    by_iterations, train, stop, tmp_path, sampler
):
    """Of 8 images: 2 batches of 2, then 2 of 4, then batches of 2 again."""
    loader = by_iterations.train_dataloader
    loader.batch_sampler.drop_last = True
    loader.sampler.type, loader.batch_size = sampler, 2
    by_iterations.work_dir = str(tmp_path / 'whole')
    train(by_iterations, Views(expected := []))
    by_iterations.work_dir = str(tmp_path / 'stopped')
    found = []
    for batch_size, end in ((2, 2), (4, 4), (2, 8)):
        loader.batch_size = batch_size
        content = stop(by_iterations, end, resume=True, hooks=[Views(found)])
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


@pytest.mark.parametrize('start_again', [False, True])
def test_a_test_after_the_training_leaves_its_checkpoints(short_config, train, start_again):
    short_config.train_cfg.max_epochs = 2
    short_config.default_hooks.checkpoint.update(interval=2, start_again=start_again)
    runner = train(short_config)
    runner.test()
    assert [path.name for path in list_checkpoints(runner.work_dir)] == ['epoch_2.pth']


@pytest.mark.parametrize(
    'options, message',
    [
        (dict(intervall=1), "unexpected keyword argument 'intervall'"),
        (dict(interval=0), 'interval of CheckpointHook is 0'),
        (dict(max_keep_ckpts=0), 'max_keep_ckpts of CheckpointHook is 0'),
        (dict(minutes=-1), 'minutes of CheckpointHook is -1'),
    ],
)
def test_bad_options_fail_at_start(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        HOOKS.build(dict(type='ibot_mm.CheckpointHook', **options))


def test_log_history_is_bounded(short_config, train):
    short_config.default_hooks.log_history.max_length = 4
    runner = train(short_config)
    assert len(values(runner, 'loss')) == 4
    assert values(runner, 'loss')[-1] == runner.message_hub.get_scalar('train/loss').current()


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


@pytest.mark.parametrize('sampler', ['DefaultSampler', 'InfiniteSampler'])
def test_mmengines_loop_of_iterations_goes_on(by_iterations, stop, tmp_path, sampler):
    by_iterations.train_cfg.type = 'IterBasedTrainLoop'
    by_iterations.train_dataloader.sampler.type = sampler
    by_iterations.work_dir = str(tmp_path / 'whole')
    whole = stop(by_iterations, 9)
    by_iterations.work_dir = str(tmp_path / 'stopped')
    stop(by_iterations, 5)
    assert first_difference(whole, stop(by_iterations, 9, resume=True)) is None
