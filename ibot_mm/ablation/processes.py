# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Several tasks at once, as processes of their own."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import IO

from .tasks import Task

POLL = 0.1  # seconds


class Running:
    """A task at one of its commands.

    Args:
        task: To be run.
        environment: Of its processes.
    """

    def __init__(self, task: Task, environment: dict[str, str]) -> None:
        self.task = task
        self._environment = environment
        self._left = list(task.commands)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        self._log: IO[bytes] = task.log.open('ab')
        self._start()

    def _start(self) -> None:
        self.process = subprocess.Popen(
            self._left.pop(0), stdout=self._log, stderr=self._log, env=self._environment
        )

    def poll(self) -> int | None:
        """Go on to the next command where one has ended; return the status of an ended task."""
        status = self.process.poll()
        if status == 0 and self._left:
            self._start()
            return None
        if status is not None:
            self._log.close()
        return status

    def wait(self) -> None:
        """Wait for the process that runs."""
        self.process.wait()
        self._log.close()


def _print(line: str) -> None:
    print(line, flush=True)  # at once, into a file too


def run_tasks(
    tasks: Sequence[Task], jobs: int = 1, tell: Callable[[str], None] = _print
) -> dict[str, str]:
    """Run tasks, so many at once; what fails does not stop the others.

    If this is interrupted, running trainings save themselves before it ends.

    Args:
        tasks: A task comes after the one that it needs.
        jobs: Defaults to 1.
        tell: Is called with a line at each begin and end. Defaults to printing it.

    Returns:
        Name -> reason, of the tasks that failed.
    """
    environment = dict(os.environ)
    if jobs > 1:  # each has its share of the cores
        environment.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // jobs)))
    waiting, running = list(tasks), list[Running]()
    names, done, failed = {task.name for task in tasks}, set[str](), dict[str, str]()
    try:
        while waiting or running:
            for task in [task for task in waiting if task.needs in failed]:
                waiting.remove(task)
                failed[task.name] = f'{task.needs} failed'
            ready = [t for t in waiting if t.needs is None or t.needs in done | ({t.needs} - names)]
            for task in ready[: jobs - len(running)]:
                waiting.remove(task)
                tell(f'{task.name}: begins, {task.log}')
                running.append(Running(task, environment))
            time.sleep(POLL)
            for current in list(running):
                status = current.poll()
                if status is None:
                    continue
                running.remove(current)
                name = current.task.name
                if status == 0:
                    done.add(name)
                else:
                    failed[name] = f'status {status}, {_last_line(current.task)}'
                left = f'{len(waiting) + len(running)} tasks left'
                tell(f'{name}: {"done" if status == 0 else "FAILED, " + failed[name]}; {left}')
    finally:
        for current in running:  # after an interruption; a training saves itself
            current.process.terminate()
        for current in running:
            current.wait()
    return failed


def _last_line(task: Task) -> str:
    """Return the last line that a task printed."""
    lines = task.log.read_text(errors='replace').strip().splitlines()
    return lines[-1].strip() if lines else 'nothing was printed'
