# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training that is stopped anywhere and resumed is the uninterrupted one, bit for bit."""

import os
import random
import signal

import pytest
import torch
from mmengine.hooks import Hook

from ibot_mm.engine.checkpointing import (
    CheckpointFileError,
    find_newest,
    list_checkpoints,
    read_checkpoint,
)
from ibot_mm.engine.checkpointing.compare import first_difference
from ibot_mm.engine.checkpointing.stopping import TrainingStopped

END = 8  # iterations: 2 in an epoch, 3 with 5 images more


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
    tiny_config.train_dataloader.drop_last = False
    tiny_config.train_cfg.max_epochs = 4
    tiny_config.default_hooks.checkpoint.update(interval=-1, save_last=False)
    return tiny_config


@pytest.fixture
def stop(train):
    """Train up to an iteration, stopped by a signal; the content of what that saves."""

    def run(cfg, iteration, number=signal.SIGUSR1, resume=False):
        cfg.resume = resume
        with pytest.raises(TrainingStopped) as stopped:
            train(cfg, Stop(iteration, number))
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


@pytest.mark.parametrize('variant', VARIANTS)
def test_resumed_anywhere_is_the_uninterrupted_run(short_config, stop, variant, tmp_path):
    short_config.merge_from_dict(VARIANTS[variant])
    short_config.work_dir = str(tmp_path / 'whole')
    whole = stop(short_config, 11)
    for place in places(list(VARIANTS).index(variant)):
        short_config.work_dir = str(tmp_path / f'stopped_{place}')
        stop(short_config, place)
        resumed = stop(short_config, 11, resume=True)
        assert first_difference(whole, resumed) is None, place
