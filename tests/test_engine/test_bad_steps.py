# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Overflows put into whole trainings: what a bad step leaves behind is nothing."""

import copy
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from ibot_mm.engine import SkipBadStepsHook
from ibot_mm.engine.checkpointing import read_checkpoint
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.stopping import TrainingStopped

pytestmark = pytest.mark.slow

COUNT = 'train/skipped_steps'
INF, NAN = float('inf'), float('nan')
SKIP = {'default_hooks.finite_loss.type': 'ibot_mm.SkipBadStepsHook'}
WEIGHT = 'backbone.layers.0.ffn.layers.1.weight'
NUM_GRADIENTS = 39


class Overflow(Hook):
    """In the given iterations, makes something infinite: a gradient, or activations of a module."""

    def __init__(self, place, *iterations):
        self.place, self.iterations = place, iterations

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter not in self.iterations:
            return
        if self.place == 'gradient':
            parameter = runner.model.get_parameter(WEIGHT)
            self.handle = parameter.register_hook(lambda gradient: gradient * INF)
        else:
            module = runner.model.get_submodule(self.place)
            self.handle = module.register_forward_hook(spoil)

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter in self.iterations:
            self.handle.remove()


def spoil(module, inputs, outputs):
    """An overflow in what comes first, of one image or token."""
    outputs = outputs.clone()
    outputs[0][..., 0] = INF
    return outputs


class LeaveOut(Hook):
    """What shall come out: after some iterations puts everything back to where it was before."""

    priority = 'BELOW_NORMAL'  # after the teacher moved, before the schedules do

    def __init__(self, first, last):
        self.first, self.last = first, last

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.first:
            self.states = state_of(runner)

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.last:
            model, optimizer = copy.deepcopy(self.states)
            runner.model.load_state_dict(model)
            runner.optim_wrapper.optimizer.load_state_dict(optimizer)


class Watch(Hook):
    """Keeps losses and learning rate of each iteration."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.losses, self.rates = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        self.rates.append(runner.optim_wrapper.get_lr()['lr'])


class Scaler(Hook):
    """A gradient scaler as fp16 has it, which also works on the CPU."""

    def before_train(self, runner):
        scaler = torch.amp.GradScaler('cpu', init_scale=2.0**8)
        runner.optim_wrapper.loss_scaler = scaler


def state_of(runner):
    return copy.deepcopy((runner.model.state_dict(), runner.optim_wrapper.optimizer.state_dict()))


def count(runner):
    return runner.message_hub.get_scalar(COUNT).current()


def log_of(runner):
    return (Path(runner.log_dir) / f'{runner.timestamp}.log').read_text()


@pytest.fixture
def config(tiny_config):
    """8 images, 2 a step, 2 epochs: 8 iterations that all move the weights."""
    tiny_config.train_dataloader.batch_size = 2
    tiny_config.train_cfg.max_epochs = 2
    tiny_config.update(val_dataloader=None, val_cfg=None, val_evaluator=None)
    tiny_config.param_scheduler[0].warmup = 0
    tiny_config.default_hooks.prototypes.epochs = 0
    tiny_config.merge_from_dict(SKIP)
    return tiny_config


OPTIONS = {
    'float32': {},
    'bf16': {'optim_wrapper.dtype': 'bfloat16'},
    'not fused': {'optim_wrapper.optimizer.fused': False},
    'no mixed precision': {'optim_wrapper.type': 'ibot_mm.PerParameterClipOptimWrapper'},
    'batch norm': {'model.neck.norm_cfg': dict(type='BN1d')},
}
CASES = [
    pytest.param(options, marks=[pytest.mark.slow] if number else [])
    for number, options in enumerate(OPTIONS.values())
]
PLACES = ['gradient', 'backbone.layers.0.ln1', 'teacher.neck.layers.1']


def compare(config, train, overflows, left_out, *hooks):
    """Train with an overflow, with the same step left out, and undisturbed."""
    config.default_hooks.checkpoint = None
    reference, undisturbed = Watch(), Watch()
    expected = state_of(train(config, LeaveOut(*left_out), reference, *hooks))
    other = state_of(train(config, undisturbed, *hooks))
    with pytest.raises(AssertionError):
        torch.testing.assert_close(expected, other, rtol=0, atol=0)
    first, last = left_out
    for overflow in overflows:
        watch = Watch()
        runner = train(config, overflow, watch, *hooks)
        torch.testing.assert_close(state_of(runner), expected, rtol=0, atol=0)
        assert watch.losses[:first] == undisturbed.losses[:first]
        assert watch.losses[last + 1 :] == reference.losses[last + 1 :]
        assert watch.rates == undisturbed.rates  # schedules do not notice
        assert runner.message_hub.get_scalar(COUNT).data[0].tolist() == [0, 1]
        assert f'Skipped a step, 1 in a row, 1 in all, at iteration {last} (' in log_of(runner)
    return runner


@pytest.mark.parametrize('options', CASES, ids=OPTIONS)
def test_a_bad_step_leaves_nothing_behind(config, train, options):
    config.merge_from_dict(options)
    compare(config, train, [Overflow(place, 5) for place in PLACES], (5, 5))


def test_with_accumulation_the_whole_step_is_bad(config, train):
    config.merge_from_dict({'optim_wrapper.accumulative_counts': 2})
    overflows = [Overflow(PLACES[0], 4), Overflow(PLACES[0], 5), Overflow(PLACES[2], 4)]
    compare(config, train, overflows, (4, 5))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'optim_wrapper.optimizer.fused': False},
        {'optim_wrapper.type': 'ibot_mm.AmpOptimWrapper', 'optim_wrapper.clip_grad': None},
    ],
    ids=['fused', 'not fused', 'no clipping'],
)
def test_what_the_gradient_scaler_skips_counts(config, train, options):
    config.merge_from_dict(options)
    runner = compare(config, train, [Overflow('gradient', 5)], (5, 5), Scaler())
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.0**7  # it has noticed, too
    assert not hasattr(runner.optim_wrapper.optimizer, 'found_inf')


def test_the_hook_changes_nothing_where_all_is_well(config, train):
    with_hook = state_of(train(config))
    config.default_hooks.finite_loss = dict(type='ibot_mm.FiniteLossHook')
    torch.testing.assert_close(with_hook, state_of(train(config)), rtol=0, atol=0)


@pytest.mark.parametrize(
    'limits, iterations, message',
    [
        (dict(max_in_a_row=3), (1, 2, 4, 5, 6, 7), r'3 in a row, 5 in all, .* iteration 6 '),
        (dict(max_in_all=3), (1, 2, 4, 5), r'1 in a row, 3 in all, .* iteration 4 '),
    ],
    ids=['in a row', 'in all'],
)
def test_too_many_end_the_training(config, train, limits, iterations, message):
    """Before a checkpoint is written from them; names, losses and norms say where to look."""
    config.default_hooks.finite_loss.update(limits)
    with pytest.raises(FloatingPointError, match=f'Skipped too many steps, {message}') as error:
        train(config, Overflow('gradient', *iterations))
    text = str(error.value)
    assert re.search(r'loss_cls [\d.]+, loss_patch [\d.]+', text)
    assert f'1 of {NUM_GRADIENTS} gradients are not finite, nearest to the losses {WEIGHT}.' in text
    norms = re.search(r'Last finite norms of the gradient: (.*)\. The last checkpoint', text)[1]
    assert len(norms.split(', ')) > 1 and all(float(norm) > 0 for norm in norms.split(', '))
    assert 'epoch_1.pth, is from before it' in text and 'lower learning rate' in text


def test_a_resumed_training_goes_on_counting(config, train):
    config.default_hooks.finite_loss.max_in_all = 2
    assert count(train(config, Overflow('gradient', 1))) == 1
    config.merge_from_dict(dict(resume=True, load_from=f'{config.work_dir}/epoch_1.pth'))
    with pytest.raises(FloatingPointError, match='1 in a row, 2 in all'):
        train(config, Overflow('gradient', 5))


class Nan(Hook):
    """Makes the loss that is logged NaN, but not its gradient."""

    priority = 'HIGHEST'

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            outputs['loss'] = outputs['loss'] * NAN


def test_a_bad_loss_with_a_good_gradient_is_an_error_still(config, train):
    with pytest.raises(FloatingPointError, match=r'The loss is not finite at iteration 5 '):
        train(config, Nan())


def test_steps_without_any_gradient(config, train):
    config.optim_wrapper.type = 'OptimWrapper'
    config.optim_wrapper.pop('clip_grad')
    config.optim_wrapper.optimizer.update(weight_decay=0.0)

    class Drop(Hook):
        def before_train(self, runner):
            runner.optim_wrapper.optimizer.register_step_pre_hook(
                lambda optimizer, *_: optimizer.zero_grad()
            )

    assert count(train(config, Drop())) == 0


@pytest.mark.parametrize('limit', ['max_in_a_row', 'max_in_all'])
def test_bad_limits(limit):
    with pytest.raises(ValueError, match='must be at least 1.*to stop at once take FiniteLossHook'):
        SkipBadStepsHook(**{limit: 0})


class Stop(Hook):
    """Ends the training after an iteration, as a signal does."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.parametrize(
    ('place', 'stop'),
    [('teacher.neck.layers.1', 5), ('gradient', 5), ('gradient', 6)],
    ids=['bad centers within the step', 'bad gradient within the step', 'bad step just before'],
)
def test_resumed_around_a_bad_step_is_the_uninterrupted_run(config, train, tmp_path, place, stop):
    """Steps of two iterations; the third is bad from its first iteration on."""
    config.optim_wrapper.accumulative_counts = 2
    config.default_hooks.finite_loss.interval = 2
    whole = train(config, Overflow(place, 4))
    config.work_dir = str(tmp_path / 'stopped')
    with pytest.raises(TrainingStopped):
        train(config, Overflow(place, 4), Stop(stop))
    config.resume = True
    resumed = train(config)
    ends = [read_checkpoint(f'{runner.work_dir}/epoch_2.pth') for runner in (whole, resumed)]
    assert first_difference(*ends) is None
    assert ends[0]['log_history'][COUNT]['values'].tolist() == [0, 1]


def test_steps_skipped_in_a_row_are_counted_over_a_stop(config, train):
    config.default_hooks.finite_loss.max_in_a_row = 3
    with pytest.raises(TrainingStopped):
        train(config, Overflow('gradient', 1, 2), Stop(3))
    config.resume = True
    with pytest.raises(FloatingPointError, match='3 in a row, 3 in all'):
        train(config, Overflow('gradient', 3))
