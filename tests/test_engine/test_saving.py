# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is saved and where, and what never is."""

import multiprocessing
import os
import random
import re
import signal
import time
from pathlib import Path

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
from ibot_mm.engine.distributed import prepare_cpu_processes
from ibot_mm.registry import HOOKS
from ibot_mm.version import __version__, find_commit

pytestmark = pytest.mark.slow


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
    saved = list(Path(runner.work_dir).glob('best*'))
    names = [path.name for path in saved]
    assert names == [best.format(3)]
    meta = read_checkpoint(saved[0])['meta']  # what made it, for a model card
    assert meta['ibot_mm_version'] == __version__ and meta['ibot_mm_commit'] == find_commit()
    assert runner.message_hub.get_info('best_ckpt').endswith(names[0])


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
    history = runner.message_hub.get_scalar('train/loss')
    assert len(history.data[0]) == 4 and history.data[0][-1] == history.current()


class Tell(Hook):
    """Tells another process how far this one is, and when it saves."""

    priority = 'LOWEST'

    def __init__(self):
        self.iteration = multiprocessing.Value('i', 0)
        self.is_saving = multiprocessing.Value('i', 0)

    def after_train_iter(self, runner, *args, **kwargs):
        self.iteration.value = runner.iter + 1
        self.is_saving.value = 0

    def before_save_checkpoint(self, runner, checkpoint):
        self.is_saving.value = 1


def test_kill_9_loses_at_most_one_interval_of_checkpoints(
    short_config, train, start_together, monkeypatch, tmp_path
):
    """At random moments and while a file is written; only one checkpoint is kept."""
    short_config.default_hooks.checkpoint.update(by_epoch=False, interval=2, max_keep_ckpts=1)
    short_config.train_cfg.max_epochs = 8
    short_config.work_dir = str(tmp_path / 'whole')
    train(short_config)
    short_config.update(work_dir=str(tmp_path / 'killed'), resume=True)
    fsync, rng, saved, half_written = os.fsync, random.Random(0), 0, 0
    monkeypatch.setattr(os, 'fsync', lambda file: (time.sleep(0.05), fsync(file)))
    for number in range(5):
        tell, goal = Tell(), saved + rng.randint(1, 4)
        (one,) = start_together(train, short_config, tell, number=1)
        while one.process.is_alive() and tell.iteration.value < goal:
            time.sleep(0.001)
        while one.process.is_alive() and number % 2 and not tell.is_saving.value:
            time.sleep(0.001)
        time.sleep(0.04 * rng.random())
        one.process.kill()
        one.process.join()
        assert one.status == -signal.SIGKILL, one.text
        half_written += len(list((tmp_path / 'killed').glob('*.unfinished')))
        newest, passed_over = find_newest(short_config.work_dir)
        saved = read_checkpoint(newest)['meta']['iter'] if newest else 0
        assert tell.iteration.value - saved <= 2 and not passed_over
    assert half_written >= 1
    train(short_config)
    ends = [read_checkpoint(tmp_path / name / 'iter_24.pth') for name in ('whole', 'killed')]
    assert first_difference(*ends) is None
