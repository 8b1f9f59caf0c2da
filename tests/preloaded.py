# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Scripts in processes of their own that find the packages imported: to import takes 8 seconds.

A server imports them, one for each of pytest's workers, and forks a process for each script.
"""

import multiprocessing
import os
import runpy
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['mmpretrain.models', *(f'ibot_mm.{room}' for room in ('models', 'datasets', 'engine'))]
)


def run_script(
    command: Sequence[str], folder: Path, num_processes: int = 1, timeout: float = 600
) -> list[CompletedProcess]:
    """Run a script, in several processes as torchrun starts them: one group over this machine.

    Args:
        command: Path of the script and its arguments, or ``-m``, a module and its arguments.
        folder: Where it runs.
        num_processes: Defaults to 1, which is not a group.
        timeout: In seconds, after which processes are killed. Defaults to 600.

    Returns:
        Exit status and output of each process.
    """
    with tempfile.TemporaryDirectory() as outputs:
        end = time.monotonic() + timeout
        processes = []
        for rank, variables in enumerate(_variables(num_processes)):
            files = [f'{outputs}/{rank}.{stream}' for stream in ('stdout', 'stderr')]
            arguments = (list(command), str(folder), variables, files)
            processes.append((CONTEXT.Process(target=_run, args=arguments), files))
            processes[-1][0].start()
        results = []
        for process, files in processes:
            process.join(max(end - time.monotonic(), 0))
            if process.is_alive():
                process.kill()
                process.join()
            texts = [Path(file).read_text() for file in files]
            results.append(CompletedProcess(command, process.exitcode or 0, *texts))
    return results


def _variables(num_processes: int) -> list[dict[str, str]]:
    """Environment of each process."""
    variables = dict(os.environ, OMP_NUM_THREADS='1')
    if num_processes == 1:
        return [variables]
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    variables |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    variables |= dict.fromkeys(('WORLD_SIZE', 'LOCAL_WORLD_SIZE'), str(num_processes))
    return [variables | dict(RANK=str(i), LOCAL_RANK=str(i)) for i in range(num_processes)]


def _run(
    command: list[str], folder: str, variables: dict[str, str], outputs: Sequence[str]
) -> None:
    """Become the script."""
    for descriptor, path in zip((1, 2), outputs):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    if command[0] == '-m':
        sys.argv, sys.path[0] = command[1:], folder
        runpy.run_module(command[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv, sys.path[0] = command, str(Path(command[0]).resolve().parent)
        runpy.run_path(command[0], run_name='__main__')
