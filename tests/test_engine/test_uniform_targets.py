# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import logging
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.logging import MessageHub

from ibot_mm.engine.hooks import TeacherTemperatureHook, TeacherUpdateHook, UniformTargetsHook

NUM_PROTOTYPES = 512


@pytest.fixture
def start(request, caplog):
    """Start a training of so many epochs with hooks, and give its warnings and its runner."""

    def run(epochs, steps_per_epoch, temperature, update, entropy=1.0, resumed_at=0):
        head = SimpleNamespace(num_prototypes=NUM_PROTOTYPES, student_temperature=0.1)
        watch = UniformTargetsHook()
        runner = SimpleNamespace(
            model=SimpleNamespace(head=head, set_temperatures=None, update_teacher=None),
            train_loop=SimpleNamespace(dataloader=range(steps_per_epoch)),
            max_epochs=epochs,
            max_iters=epochs * steps_per_epoch,
            epoch=0,
            iter=resumed_at,
            message_hub=MessageHub(request.node.name),
            hooks=[temperature, update, watch],
            logger=logging.getLogger('test_uniform_targets'),
            call_hook=lambda name: None,
        )
        caplog.clear()
        update.before_train(runner)
        watch.before_train(runner)
        before = [record.getMessage() for record in caplog.records]
        caplog.clear()
        for step in range(resumed_at, runner.max_iters):
            runner.iter = step
            runner.message_hub.update_scalar(
                'train/teacher_entropy', entropy * math.log(NUM_PROTOTYPES)
            )
            watch.after_train_iter(runner, 0)
        return before, [record.getMessage() for record in caplog.records]

    return run


def published(warmup_epochs=30):
    return TeacherTemperatureHook((0.04, 0.07), (0.04, 0.07), warmup_epochs)


def small(share=0.4):
    return TeacherTemperatureHook((0.01, 0.02), (0.02, 0.03), warmup_share=share)


def test_published_temperatures_in_8400_steps(start):
    """Measured: never left; the advice has the lines to add."""
    (before,), _ = start(36, 234, published(), TeacherUpdateHook(0.99))
    assert 'temperature is too high' in before and 'memory' not in before
    assert 'temperature=dict(temperature=(0.02, 0.03))' in before and 'small_data.py' in before


@pytest.mark.slow
@pytest.mark.parametrize('epochs, per_epoch', [(800, 1251), (100, 1251)])
def test_published_recipe_on_published_data(start, epochs, per_epoch):
    before, _ = start(epochs, per_epoch // 10, published(), TeacherUpdateHook(0.96), entropy=0.5)
    assert before == []


@pytest.mark.parametrize('images', [2_000, 20_000, 100_000])
@pytest.mark.parametrize('batch_size', [32, 512])
def test_small_data(start, images, batch_size):
    epochs = {2_000: 200, 20_000: 40, 100_000: 4}[images]
    update = TeacherUpdateHook(memory_share=0.02)
    assert start(epochs, images // batch_size, small(), update, entropy=0.3) == ([], [])


def test_a_memory_longer_than_the_training(start):
    (before,), _ = start(2, 200, small(), TeacherUpdateHook(0.996))
    assert 'the memory of the teacher is 250 of its steps' in before
    assert 'teacher=dict(momentum=0.95)' in before


@pytest.mark.parametrize('entropy, expected', [(0.99, 1), (0.9, 0)])
def test_during_training_once(start, entropy, expected):
    before, during = start(40, 25, small(), TeacherUpdateHook(0.98), entropy)
    assert before == [] and len(during) == expected
    assert all('99.0% of ln K' in text and 'After 100 steps' in text for text in during)


def test_a_resumed_training_is_not_warned_again(start):
    assert start(36, 234, published(), TeacherUpdateHook(0.99), 0.99, resumed_at=8000) == ([], [])


@pytest.mark.parametrize('steps, memory', [(100, 10), (3_000, 60), (100_000, 250)])
def test_a_memory_that_is_a_share_of_the_training(steps, memory):
    update = TeacherUpdateHook(memory_share=0.02)
    model = SimpleNamespace(update_teacher=None)
    update.before_train(SimpleNamespace(model=model, max_iters=steps))
    assert update.momentum == pytest.approx(1 - 1 / memory)


def test_ranges():
    with pytest.raises(ValueError, match=r'correlation must be a number in \(0, 1\], got 1.2'):
        UniformTargetsHook(correlation=1.2)


def test_in_a_training(tiny_config, train):
    tiny_config.default_hooks.uniform_targets = dict(type='ibot_mm.UniformTargetsHook')
    runner = train(tiny_config)
    (log,) = Path(runner.log_dir).glob('*.log')
    assert log.read_text().count('may stay flat at ln K') == 1
