# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Several processes of a training, forked from that of a test."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from mmengine.registry import RUNNERS

from ibot_mm.compatibility import import_mmpretrain
from ibot_mm.registry import DATASETS, HOOKS, METRICS, MODELS


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
