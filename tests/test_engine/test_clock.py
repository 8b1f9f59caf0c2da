# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Seeds and schedules in every kind of loop, with every kind of sampler."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import Subset

from ibot_mm.datasets import SeededBatchSampler
from ibot_mm.engine import TrainingSeedHook
from ibot_mm.engine.clock import Clock

pytestmark = pytest.mark.slow

PROTOTYPES = 'neck.cls_prototypes.parametrizations.weight.original1'


class Watch(Hook):
    """Keeps what each iteration reads and uses."""

    priority = 'LOWEST'

    def __init__(self):
        self.values = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.moved = runner.model.get_parameter(PROTOTYPES).clone()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        head, inputs = runner.model.head, data_batch['inputs']
        views = zip(inputs['global_crops'], inputs['augmentation'])
        self.values.append(
            dict(
                paths=[sample.img_path for sample in data_batch['data_samples']],
                views=[(crops[0].sum().item(), tuple(row[0].tolist())) for crops, row in views],
                masked=bool(inputs['masks'].any()),
                temperature=head.teacher_temperature,
                patch_temperature=head.teacher_patch_temperature,
                moved=not torch.equal(self.moved, runner.model.get_parameter(PROTOTYPES)),
                loss=outputs['loss'].item(),
            )
        )

    def all(self, key):
        return [value[key] for value in self.values]


@pytest.fixture
def by_iterations(tiny_config):
    """Twelve iterations of 2 of 8 images: three passes, by a sampler without end."""
    tiny_config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=12, val_interval=100)
    tiny_config.train_dataloader.batch_size = 2
    tiny_config.train_dataloader.sampler = dict(type='InfiniteSampler', shuffle=True)
    tiny_config.log_processor = dict(by_epoch=False)
    tiny_config.param_scheduler = None
    tiny_config.default_hooks.checkpoint = None
    tiny_config.default_hooks.temperature.warmup_epochs = 1
    tiny_config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    return tiny_config


@pytest.mark.parametrize('sampler', ['InfiniteSampler', 'DefaultSampler'])
def test_a_loop_by_iterations_reads_fresh_views(by_iterations, train, sampler, monkeypatch):
    monkeypatch.setattr('mmengine.runner.loops.time.sleep', lambda seconds: None)
    by_iterations.train_dataloader.sampler.type = sampler
    watch = Watch()
    train(by_iterations, watch)
    views = sum(watch.all('views'), [])
    assert len(set(views)) == len(views) == 24
    paths = sum(watch.all('paths'), [])
    assert all(paths.count(path) == 3 for path in set(paths))


def test_schedules_move_in_a_loop_by_iterations(by_iterations, train):
    by_iterations.default_hooks.temperature.patch_start_epoch = 1.5
    by_iterations.train_dataloader.dataset.pipeline.masks.update(
        start_epoch=1.5, ratio=[(0.5, 0.0)]
    )
    by_iterations.default_hooks.prototypes.epochs = 0.5
    watch = Watch()
    train(by_iterations, watch)
    rise = [0.04, 0.05, 0.06, 0.07]
    assert watch.all('temperature') == pytest.approx(rise + [0.07] * 8)
    assert watch.all('patch_temperature') == pytest.approx([0.04] * 6 + rise + [0.07] * 2)
    assert watch.all('masked') == [False] * 6 + [True] * 6
    assert watch.all('moved') == [False] * 2 + [True] * 10


def test_a_loop_by_iterations_is_the_same_with_workers(by_iterations, train):
    alone, workers = Watch(), Watch()
    train(by_iterations, alone)
    by_iterations.train_dataloader.update(num_workers=2, persistent_workers=True)
    train(by_iterations, workers)
    assert alone.values == workers.values


def test_repeated_data_in_epochs(tiny_config, train):
    dataset = tiny_config.train_dataloader.dataset
    tiny_config.train_dataloader.dataset = dict(type='RepeatDataset', times=4, dataset=dataset)
    tiny_config.train_dataloader.update(num_workers=2, persistent_workers=True)
    tiny_config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    watch = Watch()
    train(tiny_config, watch)
    views = sum(watch.all('views'), [])
    assert len(set(views)) == len(views) == 4 * 8 * 3


def test_warm_up_longer_than_a_loop_by_iterations(by_iterations, train):
    by_iterations.default_hooks.temperature.warmup_epochs = 4
    message = r'12 iterations is shorter .* 4 epochs \(16 iterations, at 4 for each epoch\)'
    with pytest.raises(ValueError, match=message):
        train(by_iterations)


def test_an_epoch_without_end(tiny_config, train):
    tiny_config.train_dataloader.sampler = dict(type='InfiniteSampler')
    with pytest.raises(ValueError, match='An epoch with InfiniteSampler has no end.*IterBased'):
        train(tiny_config)


def test_batches_that_are_not_seeded(tiny_config, train):
    tiny_config.train_dataloader.batch_sampler = None
    with pytest.raises(
        TypeError, match=r'batches of SkippingBatchSampler.*ibot_mm\.SeededBatchSampler'
    ):
        train(tiny_config)


@pytest.mark.parametrize(
    ('kind', 'sampler', 'epoch'),
    [
        (EpochBasedTrainLoop, DefaultSampler, 7),
        (IterBasedTrainLoop, DefaultSampler, 2),
        (IterBasedTrainLoop, InfiniteSampler, 7),
    ],
)
def test_the_sampler_is_told_the_pass_that_a_resumed_training_is_in(kind, sampler, epoch):
    """Nine iterations of four are done."""
    batches = SeededBatchSampler(sampler(range(8), seed=0), 2)
    told = []
    batches.set_epoch = told.append
    loop, loader = kind.__new__(kind), SimpleNamespace(batch_sampler=batches)
    runner = SimpleNamespace(train_loop=loop, train_dataloader=loader, epoch=7, iter=9)
    TrainingSeedHook().before_train_epoch(runner)
    assert told == [epoch]


def test_data_that_are_read_in_whole_batches():
    images = Subset(range(8), [0, 1])
    batches = SeededBatchSampler(DefaultSampler(images, seed=0), 2)
    loader = SimpleNamespace(batch_sampler=batches, dataset=images)
    runner = SimpleNamespace(train_dataloader=loader, train_loop=None, seed=0)
    with pytest.raises(TypeError, match=r'Subset is asked for whole batches .*indices='):
        TrainingSeedHook().before_train(runner)


def test_length_of_epochs():
    assert [Clock(0, 9).steps(epochs) for epochs in (0, 1, 30)] == [0, 1, 30]
    by_iterations = Clock(0, 100, 2.5)
    assert [by_iterations.steps(epochs) for epochs in (0, 0.1, 1, 2, 0.4)] == [0, 1, 3, 5, 1]
