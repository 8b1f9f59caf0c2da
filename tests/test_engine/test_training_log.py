# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from ibot_mm.engine.hooks import TrainingLogHook, training_log


@pytest.fixture
def runner(request):
    """What the hook reads of a Runner."""
    loader = SimpleNamespace(batch_size=64, num_workers=3, prefetch_factor=2)
    groups = [dict(weight_decay=0.04), dict(weight_decay=0.0)]
    return SimpleNamespace(
        message_hub=MessageHub(request.node.name),
        train_dataloader=loader,
        optim_wrapper=SimpleNamespace(param_groups=groups),
        logger=logging.getLogger('test_training_log'),
    )


def run(hook, runner, iterations, seconds, waited):
    for _ in range(iterations):
        runner.message_hub.update_scalar('train/time', seconds)
        runner.message_hub.update_scalar('train/data_time', waited)
        hook.after_train_iter(runner, 0)
    return {
        name: runner.message_hub.get_scalar(f'train/{name}').current()
        for name in ('img_per_s', 'waiting', 'weight_decay')
    }


def test_values(runner, monkeypatch):
    monkeypatch.setattr(training_log, 'get_world_size', lambda: 8)
    hook = TrainingLogHook(window=4)
    assert run(hook, runner, 1, 0.5, 0.1) == pytest.approx(
        dict(img_per_s=1024, waiting=0.2, weight_decay=0.04)
    )
    last = run(hook, runner, 4, 0.25, 0.01)  # the first has left the window
    assert last == pytest.approx(dict(img_per_s=2048, waiting=0.04, weight_decay=0.04))


def test_mean_is_over_the_window(runner):
    hook = TrainingLogHook(window=4)
    run(hook, runner, 2, 1.0, 0.0)
    last = run(hook, runner, 2, 3.0, 0.8)
    assert (last['img_per_s'], last['waiting']) == pytest.approx((32, 0.2))


def test_batch_size_of_a_batch_sampler(runner):
    runner.train_dataloader.batch_size = None  # as torch has it
    runner.train_dataloader.batch_sampler = SimpleNamespace(batch_size=16)
    assert run(TrainingLogHook(), runner, 1, 0.5, 0.1)['img_per_s'] == 32


def test_without_the_module_that_windows_lacks(runner, monkeypatch):
    monkeypatch.setattr(training_log, 'resource', None)
    assert run(TrainingLogHook(), runner, 1, 0.5, 0.1)['img_per_s'] == 128
    assert 'train/memory' not in runner.message_hub.log_scalars


@pytest.mark.parametrize('on_device', [True, False])
def test_memory_of_the_process_where_mmengine_logs_none(runner, monkeypatch, on_device):
    monkeypatch.setattr(training_log, 'is_cuda_available', lambda: on_device)
    run(TrainingLogHook(), runner, 1, 1.0, 0.0)
    assert ('train/memory' in runner.message_hub.log_scalars) == (not on_device)
    if not on_device:  # MiB: an interpreter with torch
        assert 50 < runner.message_hub.get_scalar('train/memory').current() < 100_000


def test_warns_once_of_lasting_waits(runner, caplog):
    hook = TrainingLogHook(window=5)
    run(hook, runner, 5, 1.0, 0.3)
    assert not caplog.records
    run(hook, runner, 30, 1.0, 0.3)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert message.startswith('30% of the last 5 iterations was waiting for data')
    assert 'num_workers (now 3)' in message and 'prefetch_factor (now 2)' in message


def test_slow_start_and_short_waits_are_no_warning(runner, caplog):
    hook = TrainingLogHook(window=5)
    run(hook, runner, 1, 30.0, 29.0)
    run(hook, runner, 20, 1.0, 0.15)
    assert not caplog.records


def test_in_a_training(tiny_config, train):
    hub = train(tiny_config).message_hub
    assert 0 < hub.get_scalar('train/waiting').current() < 1
    assert hub.get_scalar('train/img_per_s').current() > 0
