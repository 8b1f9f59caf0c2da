# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook, RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.runner.priority import get_priority

from ibot_mm.engine import (
    DeferredRuntimeInfoHook,
    ProgressBarHook,
    SkipBadStepsHook,
    TeacherUpdateHook,
)
from ibot_mm.engine.hooks.runtime_info import WaitingScalars
from ibot_mm.engine.hooks.skipped_step import (
    announce_skipped_step,
    end_announcements,
    read_skipped_step,
)


@pytest.fixture
def hub(request):
    hub = MessageHub.get_instance(request.node.name)
    hub.update_scalar('train/loss', 4.0)
    return hub


def values(hub, name):
    return hub.get_scalar(name).data[0].tolist()


def test_tensors_wait_and_numbers_do_not(hub):
    scalars, loss = WaitingScalars(hub), torch.tensor(3.0)
    scalars.update_scalar('train/loss', loss)
    scalars.update_scalar('train/lr', 0.1)
    loss.mul_(2)  # shows when the value is read
    assert len(scalars) == 1
    assert values(hub, 'train/loss') == [4.0] and values(hub, 'train/lr') == [0.1]
    scalars.hand_over()
    assert values(hub, 'train/loss') == [4.0, 6.0] and len(scalars) == 0


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.int64])
def test_histories_are_in_order_and_exact(hub, dtype):
    scalars = WaitingScalars(hub)
    for value in (3.0, 2.0):
        scalars.update_scalar('train/loss', torch.tensor([value], dtype=dtype), count=2)
        scalars.update_scalar('train/grad_norm', torch.tensor(0.1, dtype=torch.float64))
    scalars.hand_over()
    losses, counts = hub.get_scalar('train/loss').data
    assert losses.tolist() == [4.0, 3.0, 2.0] and counts.tolist() == [1, 2, 2]
    assert values(hub, 'train/grad_norm') == [0.1, 0.1]


def test_holds_no_graph(hub):
    scalars = WaitingScalars(hub)
    scalars.update_scalar('train/loss', torch.ones((), requires_grad=True) * 2)
    assert not any(value.requires_grad for _, value, _, _ in scalars._waiting)


def test_more_than_a_number(hub):
    with pytest.raises(ValueError, match=r'train/loss has shape \(2,\); one number'):
        WaitingScalars(hub).update_scalar('train/loss', torch.zeros(2))


def test_is_an_ordinary_runtime_info_hook():
    assert issubclass(DeferredRuntimeInfoHook, RuntimeInfoHook)
    assert DeferredRuntimeInfoHook.priority == RuntimeInfoHook.priority


@pytest.mark.parametrize('in_form_of_mmengine', [True, False])
def test_a_checkpoint_between_two_lines_of_the_log_is_complete(hub, in_form_of_mmengine):
    hook = DeferredRuntimeInfoHook()
    runner = SimpleNamespace(message_hub=hub, hooks=[hook])
    hook._scalars = WaitingScalars(hub)
    hook._scalars.update_scalar('train/loss', torch.tensor(3.0))
    if not in_form_of_mmengine:  # whoever collects by itself hands over first
        hook.prepare_checkpoint(runner)
    checkpoint = dict(message_hub=hub.state_dict())
    if not in_form_of_mmengine:
        checkpoint['message_hub']['log_scalars'] = {}
    hook.before_save_checkpoint(runner, checkpoint)
    saved = checkpoint['message_hub']['log_scalars'] if in_form_of_mmengine else hub.log_scalars
    assert saved['train/loss'].data[0].tolist() == [4.0, 3.0]
    assert bool(checkpoint['message_hub']['log_scalars']) == in_form_of_mmengine


def test_the_bar_shows_what_the_logger_has(hub, monkeypatch):
    hook, notes = ProgressBarHook(), []
    monkeypatch.setattr(hook, '_advance', lambda name, note: notes.append(note))
    runner = SimpleNamespace(message_hub=hub, epoch=1, max_epochs=3)
    hook.after_train_iter(runner, 0)
    hub.log_scalars.clear()
    hook.after_train_iter(runner, 0)
    runner.max_epochs = 1  # of a loop by iterations
    hook.after_train_iter(runner, 0)
    assert notes == ['epoch 2/3  loss 4.000', 'epoch 2/3', '']


class TestSkippedStep:
    """The one channel by which hooks learn that a step was skipped."""

    @pytest.fixture
    def runner(self, hub):
        return SimpleNamespace(iter=3, message_hub=hub)

    def test_nothing_skips(self, runner):
        assert read_skipped_step(runner) is None

    def test_what_was_announced_is_read(self, runner):
        skipped = torch.tensor(True)
        announce_skipped_step(runner, skipped)
        assert read_skipped_step(runner) is skipped
        assert 'skipped_step' not in runner.message_hub.state_dict()['runtime_info']
        end_announcements(runner)
        assert read_skipped_step(runner) is None

    def test_reading_before_it_is_announced(self, runner):
        announce_skipped_step(runner, torch.tensor(True))
        runner.iter = 4
        with pytest.raises(RuntimeError, match='step of iteration 4 before SkipBadStepsHook'):
            read_skipped_step(runner)

    def test_priorities_are_declared(self):
        writer, reader = SkipBadStepsHook, TeacherUpdateHook
        assert all('priority' in vars(hook) for hook in (writer, reader))
        assert get_priority(writer.priority) < get_priority(reader.priority)


class Waiting(Hook):
    """Notes how many losses wait after each iteration."""

    priority = 'LOWEST'

    def __init__(self):
        self.numbers = []

    def after_train_iter(self, runner, *args, **kwargs):
        waiting = runner.optim_wrapper.message_hub._waiting
        self.numbers.append(sum(key == 'train/loss' for key, *_ in waiting))


@pytest.mark.slow
def test_the_log_of_a_training_stays_the_same(tiny_config, train):
    """And losses are read at the logger's interval only."""

    def logged(runner):
        path = Path(runner.work_dir) / runner.timestamp / f'vis_data/{runner.timestamp}.json'
        kept = ('loss', 'loss_cls', 'grad_norm', 'lr', 'iter', 'step', 'agreement')
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [{key: line[key] for key in kept if key in line} for line in lines]

    tiny_config.train_cfg.max_epochs = 4
    tiny_config.train_dataloader.update(batch_size=2)  # 4 iterations an epoch
    tiny_config.default_hooks.logger.interval = 3
    waiting = Waiting()
    deferred = train(tiny_config, waiting)
    assert waiting.numbers[:8] == [1, 2, 0, 0] * 2  # the end of an epoch reads all
    assert deferred.optim_wrapper.message_hub is deferred.message_hub
    tiny_config.default_hooks.pop('runtime_info')
    plain = train(tiny_config)
    assert logged(deferred) == logged(plain) and len(logged(plain)) > 4
