# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Ends of several processes that train: stalls, signals, full disks, other numbers of processes."""

import errno
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.testing import assert_close

from ibot_mm.engine import distributed
from ibot_mm.engine.checkpointing import find_newest, list_checkpoints, read_checkpoint, save
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.stopping import Agreement, leave_on_signals
from ibot_mm.engine.distributed import (
    is_restarted,
    naming_stalled_processes,
    prepare_cpu_processes,
)

TOOL = Path(__file__).parents[2] / 'tools/train.py'


@HOOKS.register_module()
class Trouble(Hook):
    """Does something in one process, in one iteration or validation; others go on."""

    def __init__(self, what, rank=0, iteration=4, in_validation=False):
        self.what, self.rank = what, rank
        self.iteration, self.in_validation = iteration, in_validation

    def before_run(self, runner):
        if self.iteration == 0:
            self.act()

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration and not self.in_validation:
            self.act()

    def before_val_epoch(self, runner):
        if self.in_validation:
            self.act()

    def act(self):
        if get_rank() != self.rank:
            return
        if self.what == 'sleep':
            time.sleep(600)
        elif self.what == 'error':
            raise OSError(errno.ENOSPC, 'No space left on device', 'scalars.json')
        else:
            os.kill(os.getpid(), getattr(signal, self.what))


def train_as_users(*words, launcher='pytorch'):
    """tools/train.py in this process."""
    sys.argv = ['tools/train.py', *map(str, words), '--launcher', launcher]
    runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture
def config(tiny_config, tmp_path):
    """A file with a training of 3 epochs of 2 iterations, in two processes."""

    def write(*hooks, **options):
        tiny_config.pop('launcher', None)
        tiny_config.train_dataloader.batch_size = 2
        tiny_config.custom_hooks = list(hooks)
        tiny_config.merge_from_dict(options)
        tiny_config.dump(tmp_path / 'tiny.py')
        return tmp_path / 'tiny.py'

    return write


LONG = pytest.mark.long


@pytest.mark.slow
@pytest.mark.parametrize(
    ('what', 'rank', 'in_validation'),
    [
        ('SIGSTOP', 0, False),  # which keeps the store, too
        ('SIGKILL', 0, False),
        pytest.param('sleep', 1, False, marks=LONG),
        pytest.param('sleep', 0, False, marks=LONG),
        pytest.param('SIGSTOP', 1, False, marks=LONG),
        pytest.param('sleep', 1, True, marks=LONG),
        pytest.param('SIGKILL', 1, False, marks=LONG),
    ],
)
def test_a_process_that_stalls_or_dies_is_named_by_the_others(
    config, start_together, monkeypatch, what, rank, in_validation
):
    monkeypatch.setattr(distributed, 'ARRIVAL', 1.0)
    trouble = dict(type='Trouble', what=what, rank=rank, in_validation=in_validation, iteration=2)
    path = config(trouble, **{'env_cfg.dist_cfg.timeout': 5, 'train_cfg.val_interval': 2})
    group = start_together(train_as_users, path, number=3)
    for one in [one for number, one in enumerate(group) if number != rank]:
        one.process.join(120)
        assert one.status not in (None, 0), one.text
        assert f'TimeoutError: Rank {rank} of 3 did not come to where rank' in one.text
        assert 'env_cfg.dist_cfg.timeout' in one.text and '--resume goes on' in one.text


@pytest.mark.slow
@pytest.mark.parametrize('name', ['SIGTERM', pytest.param('SIGINT', marks=LONG)])
def test_a_signal_to_one_process_saves_and_ends_all(
    config, run_together, tmp_path, monkeypatch, name
):
    path = config(dict(type='Trouble', what=name, rank=1, iteration=3))
    told = tmp_path / 'status'
    monkeypatch.setenv('IBOT_MM_STATUS', str(told))
    group = run_together(train_as_users, path)
    assert [one.status for one in group] == [75, 75], group[0].text
    assert told.read_text() == '75'
    assert find_newest(tmp_path / 'work_dir')[0].name == 'epoch_1_iter_1.pth'


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGUSR1'])
def test_a_signal_before_the_training_ends_with_the_same_status(
    config, run_together, tmp_path, monkeypatch, name
):
    """But dist_train.sh is not told: torchrun, too, ends processes so, after a failure."""
    monkeypatch.setenv('IBOT_MM_STATUS', str(tmp_path / 'status'))
    (one,) = run_together(
        train_as_users, config(dict(type='Trouble', what=name, iteration=0)), number=1
    )
    assert one.status == 75, one.text
    assert not (tmp_path / 'status').exists()


def leave(number, tasks):
    os.environ['SLURM_NTASKS'] = str(tasks)
    leave_on_signals()
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ('name', 'tasks', 'status'), [('SIGUSR1', 2, 75), ('SIGTERM', 1, 75), ('SIGTERM', 2, 143)]
)
def test_what_slurm_ends_after_a_crash_is_not_queued_again(run_together, name, tasks, status):
    """Its srun ends with the greatest status of all: 75 would queue again what has crashed."""
    (one,) = run_together(leave, getattr(signal, name), tasks, number=1)
    assert one.status == status


def train_as_slurm(folder, *words):
    """The same with what Slurm tells its tasks, where torchrun's variables are not set."""
    rank, number = os.environ.pop('RANK'), os.environ.pop('WORLD_SIZE')
    for name in ('LOCAL_RANK', 'MASTER_ADDR'):
        del os.environ[name]
    os.environ |= dict(SLURM_PROCID=rank, SLURM_LOCALID=rank, SLURM_NTASKS=number)
    os.environ |= dict(SLURM_NODELIST='node[1-2]', PATH=f'{folder}:{os.environ["PATH"]}')
    train_as_users(*words, launcher='slurm')


@pytest.mark.slow
def test_slurm_starts_processes_without_a_gpu(config, run_together, tmp_path):
    (tmp_path / 'scontrol').write_text('#!/bin/sh\n[ "$3" = "node[1-2]" ] && echo 127.0.0.1\n')
    (tmp_path / 'scontrol').chmod(0o755)
    group = run_together(train_as_slurm, tmp_path, config())
    assert [one.status for one in group] == [0, 0], group[0].text
    content = read_checkpoint(tmp_path / 'work_dir/epoch_3.pth')
    assert content['meta']['settings']['world_size'] == 2


def fail_to_sync(file):
    raise OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.slow
@pytest.mark.parametrize('what', ['a checkpoint', 'a log'])
def test_a_full_disk_has_a_status_of_its_own(config, run_together, tmp_path, monkeypatch, what):
    hooks = [dict(type='Trouble', what='error', iteration=3)] if what == 'a log' else []
    path = config(*hooks, **{'env_cfg.dist_cfg.timeout': 20})
    if what == 'a checkpoint':
        write = save.write_checkpoint

        def fill(content, path):
            if content['meta']['epoch'] == 2:
                monkeypatch.setattr(os, 'fsync', fail_to_sync)
            write(content, path)

        monkeypatch.setattr(save, 'write_checkpoint', fill)
    first, second = run_together(train_as_users, path)
    assert first.status == 74 and 'full' in first.text, first.text
    assert second.status == (74 if what == 'a checkpoint' else 1), second.text
    work_dir = tmp_path / 'work_dir'
    assert [path.name for path in list_checkpoints(work_dir)] == ['epoch_1.pth']
    assert not list(work_dir.glob('*.unfinished'))


def states(path):
    content = read_checkpoint(path)
    return content['state_dict'], content['meta']['iter'], content['meta']['images_seen']


@pytest.mark.slow
@pytest.mark.parametrize('numbers', [(1, 2), (2, 2), pytest.param((2, 1), marks=LONG)], ids=str)
def test_another_number_of_processes_goes_on(config, tiny_config, run_together, tmp_path, numbers):
    """Within an accumulated step, of as many images. Equal numbers give equal bits."""
    tiny_config.model.backbone.drop_path_rate = 0.0  # is sampled by each process
    tiny_config.train_cfg.max_epochs = 4
    tiny_config.optim_wrapper.optimizer = dict(type='SGD', lr=0.5, weight_decay=0.04)
    options = {'optim_wrapper.accumulative_counts': 2, 'auto_scale_lr.enable': False}
    trouble = dict(type='Trouble', what='SIGUSR1', iteration=3)

    def run(name, number, *hooks, resume=()):
        path = config(*hooks, **options, **{'train_dataloader.batch_size': 4 // number})
        group = run_together(
            train_as_users, path, '--work-dir', tmp_path / name, *resume, number=number
        )
        assert {one.status for one in group} == {75 if hooks else 0}, group[0].text

    run('whole', numbers[1])
    run('stopped', numbers[0], trouble)
    run('stopped', numbers[1], resume=['--resume'])
    ends = [tmp_path / name / 'epoch_4.pth' for name in ('whole', 'stopped')]
    if numbers == (2, 2):
        assert first_difference(*map(read_checkpoint, ends)) is None
    else:
        assert_close(states(ends[1]), states(ends[0]), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('timeout', [0, -3, 'long'])
def test_a_timeout_is_a_positive_number(timeout):
    cfg = Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(timeout=timeout))))
    with pytest.raises(ValueError, match='env_cfg.dist_cfg.timeout is .*positive number'):
        prepare_cpu_processes(cfg)


def test_the_timeout_holds_for_the_group_beside_that_of_the_gpus(monkeypatch):
    groups = []
    monkeypatch.setattr(dist, 'is_initialized', lambda: True)
    monkeypatch.setattr(dist, 'get_backend', lambda: 'nccl')
    monkeypatch.setattr(dist, 'new_group', lambda **options: groups.append(options))
    Agreement(7)
    assert groups[0]['backend'] == 'gloo' and groups[0]['timeout'].total_seconds() == 7


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match='^size mismatch$'), naming_stalled_processes():
        raise RuntimeError('size mismatch')


RESTARTS = ('IBOT_MM_RESTARTS', 'TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')


@pytest.mark.parametrize('name', RESTARTS)
def test_restarts_are_recognized(monkeypatch, name):
    for other in RESTARTS:
        monkeypatch.delenv(other, raising=False)
    assert not is_restarted()
    monkeypatch.setenv(name, '0')
    assert not is_restarted()
    monkeypatch.setenv(name, '2')
    assert is_restarted()
