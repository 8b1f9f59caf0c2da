# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training is measured without being changed; each alarm sounds where it should, and acts."""

import copy

import pytest
import torch
from mmengine.hooks import Hook

from ibot_mm.engine.alarms import TrainingAlarm
from ibot_mm.engine.hooks import AlarmHook
from ibot_mm.engine.roll_back import read_roll_backs, train_with_roll_backs

TARGETS = {f'{kind}_{name}' for kind in ('cls', 'patch')
           for name in ('entropy', 'divergence', 'prototypes', 'rank', 'slope')}  # fmt: skip


@pytest.fixture
def health_config(tiny_config):
    """Forty steps of four images, measured at each."""
    tiny_config.train_cfg.update(max_epochs=20, val_interval=20)
    tiny_config.default_hooks.monitor.update(interval=1)
    tiny_config.default_hooks.checkpoint.update(interval=4, max_keep_ckpts=-1)
    return tiny_config


def scalar(runner, name):
    return runner.message_hub.log_scalars[f'train/{name}'].data[0]


def test_training_is_measured_and_the_same_to_the_bit(tiny_config, train):
    states = []
    for switched_off in (True, False):
        cfg = copy.deepcopy(tiny_config)
        cfg.default_hooks.checkpoint.save_best = None if switched_off else 'monitor/cls_rank'
        cfg.default_hooks.checkpoint.rule = 'greater'
        cfg.default_hooks.monitor.interval = 2
        if switched_off:
            cfg.default_hooks.monitor = cfg.default_hooks.alarm = None
        cfg.work_dir = f'{tiny_config.work_dir}_{switched_off}'
        runner = train(cfg)
        states.append(runner.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert {name for name in TARGETS if len(scalar(runner, name)) == 3} == TARGETS
    assert 1 <= scalar(runner, 'cls_prototypes')[-1] <= 24
    assert 0 < scalar(runner, 'cls_entropy')[-1] <= 1
    assert len(scalar(runner, 'dense_score')) == 3 and min(scalar(runner, 'teacher_step')) > 0
    mean = sum(scalar(runner, 'cls_rank')) / 3
    assert runner.message_hub.get_scalar('val/monitor/cls_rank').current() == pytest.approx(mean)
    assert runner.message_hub.get_info('best_score') == pytest.approx(mean)
    assert not runner.model._watchers


def hot(cfg):
    cfg.default_hooks.temperature.update(temperature=(2.0, 2.0), patch_temperature=(2.0, 2.0))


def without_centers(cfg):
    cfg.model.head.update(centering='none', patch_centering='none', teacher_temperature=0.01)
    cfg.default_hooks.temperature.update(temperature=(0.01, 0.01), patch_temperature=(0.01, 0.01))
    cfg.default_hooks.teacher.update(momentum=0.9)
    cfg.optim_wrapper.optimizer.lr *= 20


def sharp(cfg):
    cfg.default_hooks.temperature.update(temperature=(1e-5, 1e-5), patch_temperature=(1e-5, 1e-5))


def frozen(cfg):
    cfg.default_hooks.teacher.momentum = 1.0


class Spoil(Hook):
    """After 20 steps: a loss of a thousand times its weight, or features of one direction."""

    def __init__(self, what):
        self.what = what

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == 20 and self.what == 'loss':
            runner.model.head.patch_weight *= 1000
        if runner.iter >= 20 and self.what == 'features':
            runner.model.teacher.backbone.ln1.weight.data[1:] = 0


def loud(cfg):
    cfg.custom_hooks = [dict(type=Spoil, what='loss')]


def flat(cfg):
    cfg.custom_hooks = [dict(type=Spoil, what='features')]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('change', 'name', 'within'),
    [
        (hot, 'uniform', 7),
        (without_centers, 'one_prototype', 40),
        (sharp, 'entropy_gone', 7),
        (frozen, 'teacher_frozen', 4),
        (loud, 'gradient_growing', 23),
        (flat, 'rank_falling', 23),
    ],
)
def test_alarm_sounds_within_so_many_steps(health_config, train, change, name, within):
    change(health_config)
    health_config.default_hooks.alarm.actions = {name: 'stop'}
    with pytest.raises(TrainingAlarm, match=f"Alarm '{name}'") as caught:
        train(health_config)
    assert caught.value.name == name and caught.value.step <= within
    assert caught.value.since == caught.value.step - 2


def test_warning_says_what_to_change_and_comes_once(health_config, train, tmp_path):
    frozen(health_config)
    health_config.default_hooks.checkpoint.interval = -1
    train(health_config)
    (log,) = (tmp_path / 'work_dir').glob('*/*.log')
    (line,) = [line for line in log.read_text().splitlines() if "Alarm 'teacher_frozen'" in line]
    assert 'default_hooks.teacher' in line


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(action='panic'), "uniform='panic' is not known"),
        (dict(actions=dict(unifrom='stop')), "unifrom='stop' is not known"),
        (dict(patience=0), 'patience'),
        (dict(rate_factor=2), 'rate_factor'),
    ],
)
def test_unknown_alarms_and_actions(changes, message):
    with pytest.raises(ValueError, match=message):
        AlarmHook(**changes)


def test_alarms_need_the_monitor(health_config, train):
    health_config.default_hooks.monitor = None
    with pytest.raises(ValueError, match='judges what MonitorHook measures'):
        train(health_config)


class Poison(Hook):
    """Spoils the weights at an iteration, as often as ``times`` says."""

    iteration, times = 21, 1
    rates, seeds, starts = [], [], []

    def before_train(self, runner):
        self.starts.append(runner.iter)
        self.seeds.append(runner.seed)

    def before_train_iter(self, runner, *args, **kwargs):
        if runner.iter == self.iteration and Poison.times:
            Poison.times -= 1
            runner.model.backbone.cls_token.data.fill_(float('nan'))
        if runner.iter == self.iteration - 1:
            self.rates.append(runner.optim_wrapper.get_lr()['base_lr'][0])


@pytest.fixture
def poisoned(health_config):
    Poison.rates, Poison.seeds, Poison.starts = [], [], []
    health_config.custom_hooks = [dict(type=Poison)]
    health_config.default_hooks.finite_loss.interval = 2
    health_config.default_hooks.alarm.actions = dict(not_finite='roll_back')
    health_config.auto_scale_lr.enable = False
    health_config.experiment_name = 'rolled_back'
    return health_config


@pytest.mark.slow
def test_rolled_back_training_goes_on_from_before(poisoned, tmp_path):
    """20 steps are 2.5 intervals of 4 epochs of 2 steps: the checkpoint of step 16 is healthy."""
    Poison.times = 1
    train_with_roll_backs(poisoned)
    assert (Poison.starts, Poison.seeds) == ([0, 16], [0, 1])
    assert Poison.rates[1] == pytest.approx(Poison.rates[0] / 2, rel=0.01)
    (entry,) = read_roll_backs(tmp_path / 'work_dir')
    assert entry['alarm'] == 'not_finite' and entry['checkpoint'] == 'epoch_8.pth'
    assert (tmp_path / 'work_dir/epoch_20.pth').exists()


@pytest.mark.slow
def test_roll_backs_are_limited_and_remembered(poisoned, tmp_path, train):
    Poison.times = 5
    with pytest.raises(TrainingAlarm, match='It was rolled back 2 times'):
        train_with_roll_backs(copy.deepcopy(poisoned))
    assert (Poison.starts, Poison.seeds) == ([0, 16, 16], [0, 1, 2])
    poisoned.resume, Poison.times = True, 0
    train_with_roll_backs(poisoned)
    assert Poison.seeds[-1] == 2 and Poison.starts[-1] == 16
    assert Poison.rates[-1] == pytest.approx(Poison.rates[0] / 4, rel=0.01)


@pytest.mark.slow
def test_without_a_checkpoint_it_starts_again(poisoned, tmp_path):
    Poison.times = 1
    poisoned.default_hooks.checkpoint.interval = -1
    train_with_roll_backs(poisoned)
    assert (Poison.starts, Poison.seeds) == ([0, 0], [0, 1])
    assert read_roll_backs(tmp_path / 'work_dir')[0]['checkpoint'] is None


@pytest.mark.slow
@pytest.mark.parametrize('by_epoch', [True, False])
def test_training_that_is_ended_is_saved(health_config, train, tmp_path, by_epoch):
    hot(health_config)
    health_config.default_hooks.alarm.actions = dict(uniform='end')
    health_config.default_hooks.checkpoint.interval = -1
    if not by_epoch:
        health_config.train_cfg = dict(type='ibot_mm.IterBasedTrainLoop', max_iters=40)
        health_config.val_dataloader = health_config.val_evaluator = health_config.val_cfg = None
        health_config.param_scheduler = []
    runner = train(health_config)
    assert 5 <= runner.iter <= 8
    name = 'epoch_4' if by_epoch else f'iter_{runner.iter}'
    assert (tmp_path / f'work_dir/{name}.pth').exists()


def test_targets_that_no_loss_reads_are_not_judged(health_config, train):
    health_config.model.head.patch_weight = 0.0
    health_config.train_cfg.update(max_epochs=2, val_interval=2)
    names = set(train(health_config).message_hub.log_scalars)
    assert 'train/patch_entropy' not in names and 'train/cls_entropy' in names
    assert 'train/patch_rank' in names
