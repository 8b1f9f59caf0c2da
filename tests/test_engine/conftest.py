# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Trainings that are stopped, and several processes of one, forked from that of a test."""

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS

from ibot_mm.compatibility import import_mmpretrain
from ibot_mm.engine.checkpointing import find_newest, read_checkpoint
from ibot_mm.engine.checkpointing.stopping import TrainingStopped
from ibot_mm.registry import DATASETS, HOOKS, METRICS, MODELS


class Stop(Hook):
    def __init__(self, iteration, number=signal.SIGUSR1):
        self.iteration, self.number = iteration, number

    def after_train_iter(self, runner, *args, **kwargs):
        if runner.iter + 1 == self.iteration:
            os.kill(os.getpid(), self.number)


@pytest.fixture
def short_config(tiny_config: Config) -> Config:
    """Three iterations an epoch, four epochs, nothing saved by interval."""
    tiny_config.train_dataloader.batch_size = 3
    tiny_config.train_dataloader.batch_sampler.drop_last = False
    tiny_config.train_cfg.max_epochs = 4
    tiny_config.default_hooks.checkpoint.update(interval=-1, save_last=False)
    return tiny_config


@pytest.fixture
def stop(train: Callable) -> Callable[..., dict]:
    """Train up to an iteration, stopped by a signal; the content of what that saves."""

    def run(cfg, iteration, number=signal.SIGUSR1, resume=False, hooks=()):
        cfg.resume = resume
        with pytest.raises(TrainingStopped) as stopped:
            train(cfg, Stop(iteration, number), *hooks)
        assert stopped.value.code == 75
        return read_checkpoint(find_newest(cfg.work_dir)[0])

    return run


class Views(Hook):
    """Keeps what was read, image by image."""

    def __init__(self, values):
        self.values = values

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        for sample, row in zip(data_batch['data_samples'], data_batch['inputs']['augmentation']):
            self.values.append((sample.img_path, tuple(row.flatten().tolist())))


@pytest.fixture
def keep_views() -> Callable[[list], Hook]:
    """Make a hook that keeps what is read in a list."""
    return Views


class Process:
    """One of several processes of a training: its exit status and all that it has written."""

    def __init__(self, process: multiprocessing.Process, log: Path) -> None:
        self.process, self.log = process, log

    @property
    def status(self) -> int:
        return self.process.exitcode

    @property
    def text(self) -> str:
        return self.log.read_text()


@pytest.fixture
def start_together(tmp_path: Path) -> Iterator[Callable[..., list[Process]]]:
    """Start a function in several processes with the variables that torchrun sets.

    They are forked, so that nothing is imported anew and the test's patches hold in them. Those
    that still run at the end of the test are killed.
    """
    import_mmpretrain()
    for registry in (RUNNERS, MODELS, DATASETS, HOOKS, METRICS):
        registry.import_from_location()
    started: list[Process] = []

    def target(function: Callable, args: tuple, variables: dict, log: Path) -> None:
        os.environ.update(variables)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1), os.dup2(file, 2)
        sys.stdout = sys.stderr = os.fdopen(1, 'w', buffering=1)
        torch.set_num_threads(1)  # those of the parent do not exist here
        function(*args)

    def start(function: Callable, *args: object, number: int = 2) -> list[Process]:
        with socket.socket() as free:
            free.bind(('127.0.0.1', 0))
            port = free.getsockname()[1]
        group = []
        for rank in range(number):
            variables = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=number, MASTER_PORT=port)
            variables = {name: str(value) for name, value in variables.items()}
            variables['MASTER_ADDR'] = '127.0.0.1'
            log = tmp_path / f'process_{len(started)}.log'
            process = multiprocessing.get_context('fork').Process(
                target=target, args=(function, args, variables, log)
            )
            process.start()
            group.append(Process(process, log))
            started.append(group[-1])
        return group

    yield start
    for one in started:
        one.process.kill()
        one.process.join()


@pytest.fixture
def run_together(start_together: Callable[..., list[Process]]) -> Callable[..., list[Process]]:
    """Run a function in several processes to their ends, see :func:`start_together`."""

    def run(function: Callable, *args: object, number: int = 2) -> list[Process]:
        group = start_together(function, *args, number=number)
        for one in group:
            one.process.join(120)
            assert one.status is not None, one.text
        return group

    return run


@pytest.fixture
def double():
    """Adam magnifies the rounding of gradients near 0."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
