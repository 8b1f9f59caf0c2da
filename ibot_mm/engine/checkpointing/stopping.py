# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Stop requests by signals, and what the processes of a training agree on after each iteration."""

import os
import signal
import threading
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from mmengine.logging import print_log

STOPPED = 75  # EX_TEMPFAIL of sysexits.h: not done, try again later
NO_ROOM = 74  # EX_IOERR: a checkpoint could not be written

SAVE, STOP = 1, 2


class TrainingStopped(SystemExit):
    """Ends a process whose training was saved on request; its status is 75."""

    def __init__(self) -> None:
        super().__init__(STOPPED)


class NotBegun(TrainingStopped):
    """Ends a process that was to stop before its training had begun, or after its end."""


class StopSignals:
    """Notes SIGTERM, SIGUSR1 and Ctrl-C instead of ending the process; a second Ctrl-C ends it.

    Workers of data loaders, which inherit this, pass over the signals, so that the training can
    take its step. Outside of the main thread nothing is installed.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Begin to note signals."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in ('SIGTERM', 'SIGUSR1', 'SIGINT'):
            if hasattr(signal, name):  # Windows has no SIGUSR1
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._note)

    def remove(self) -> None:
        """Give back the handlers that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            return
        if number == signal.SIGINT and self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name


def leave_on_signals() -> None:
    """End a process that gets SIGTERM or SIGUSR1 before its training notes signals itself.

    Nothing is lost then; the exit status is that of a training that was saved, so that Slurm's job
    is queued again. But where Slurm has started several, SIGTERM follows the crash of another one,
    by ``--kill-on-bad-exit``: the status then is 143, or the crash would be queued again for ever.
    """
    owner = os.getpid()
    may_follow_crash = int(os.environ.get('SLURM_NTASKS') or 1) > 1

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a worker of a data loader
            return
        if number == signal.SIGTERM and may_follow_crash:
            raise SystemExit(128 + number)
        raise NotBegun

    for name in ('SIGTERM', 'SIGUSR1'):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), leave)


class Agreement:
    """What all processes do after an iteration: the most that any of them asks for.

    One number is exchanged on the CPU, so that nothing waits for a GPU.

    Args:
        timeout: Seconds to wait for the others, where the processes' own group is not one of gloo,
            which has its own. Defaults to None, torch's half an hour.
    """

    def __init__(self, timeout: float | None = None) -> None:
        self._group = None
        self._is_distributed = dist.is_available() and dist.is_initialized()
        if self._is_distributed and dist.get_backend() != 'gloo':
            limit = None if timeout is None else timedelta(seconds=timeout)
            self._group = dist.new_group(backend='gloo', timeout=limit)

    def reach(self, request: int) -> int:
        """Exchange requests.

        Args:
            request: 0, ``SAVE`` or ``STOP``.

        Returns:
            The greatest of all processes.
        """
        if not self._is_distributed or dist.get_world_size() == 1:
            return request
        number = torch.tensor(request)
        dist.all_reduce(number, dist.ReduceOp.MAX, group=self._group)
        return int(number)


def announce(received: str | None, iteration: int) -> None:
    """Say that a stop request was met.

    Args:
        received: Name of the signal, None if another process got it.
        iteration: Iterations that are complete.
    """
    print_log(
        f'Stopping after iteration {iteration}: {received or "another process got a signal"}. '
        f'The state is saved; --resume goes on. Exit status {STOPPED}.',
        'current',
    )
