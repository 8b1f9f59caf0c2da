# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Several processes on a machine without GPU, and the ways in which they end together."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist
from mmengine.logging import print_log

TIMEOUT = 1800  # seconds, as torch's for gloo
ARRIVAL = 5.0  # seconds after which no other process is expected to give up waiting


def prepare_cpu_processes(cfg: Config) -> None:
    """Let a distributed run work without GPUs; does nothing where there are some.

    mmengine sets a CUDA device while it initializes and hands a device index to the model's
    wrapper. On CPU the gloo group is made here, ahead of the Runner, and the wrapper gets none.

    Args:
        cfg: Config with ``launcher`` set; ``model_wrapper_cfg`` is filled in or changed where it
            is that of data-parallel training. Processes wait for each other for
            ``env_cfg.dist_cfg.timeout`` seconds, by default 1800.

    Raises:
        ValueError: If the timeout is not a positive number.
    """
    launcher = cfg.get('launcher', 'none')
    if launcher == 'none' or torch.cuda.is_available():
        return
    if not dist.is_initialized():
        if launcher == 'slurm':
            _describe_slurm_processes()
        dist.init_process_group('gloo', timeout=timedelta(seconds=read_timeout(cfg) or TIMEOUT))
    given = dict(cfg.get('model_wrapper_cfg') or {})
    if given.get('type', 'MMDistributedDataParallel') != 'MMDistributedDataParallel':
        return
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = wrapper | given | dict(device_ids=None)


def read_timeout(cfg: Config) -> float | None:
    """Read how many seconds processes wait for each other, None where the config does not say.

    Raises:
        ValueError: If it is not a positive number.
    """
    timeout = ((cfg.get('env_cfg') or {}).get('dist_cfg') or {}).get('timeout')
    if timeout is None or (isinstance(timeout, int | float) and timeout > 0):
        return timeout
    raise ValueError(f'env_cfg.dist_cfg.timeout is {timeout!r}: give a positive number of seconds.')


def _describe_slurm_processes() -> None:
    """Tell torch what Slurm told this process."""
    nodes = os.environ['SLURM_STEP_NODELIST' if 'SLURM_STEP_NODELIST' in os.environ else
                       'SLURM_NODELIST']  # fmt: skip
    os.environ['RANK'] = os.environ['SLURM_PROCID']
    os.environ['WORLD_SIZE'] = os.environ['SLURM_NTASKS']
    os.environ['LOCAL_RANK'] = os.environ['SLURM_LOCALID']
    os.environ.setdefault('MASTER_PORT', '29500')
    if 'MASTER_ADDR' not in os.environ:
        names = subprocess.run(
            ['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True
        )
        os.environ['MASTER_ADDR'] = names.stdout.split()[0]


@contextmanager
def naming_stalled_processes() -> Iterator[None]:
    """Name the processes that did not come, where others gave up waiting for them.

    What gloo raises after the timeout says who waited, not for whom. Processes that gave up write
    their numbers into the group's store; who is missing after some seconds has stalled or ended.

    Raises:
        TimeoutError: In place of torch's RuntimeError, where processes are missing.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        missing = _find_missing()
        if not missing:
            raise
        ranks = ', '.join(map(str, missing))
        many = len(missing) > 1
        message = (
            f'Rank{"s" if many else ""} {ranks} of {dist.get_world_size()} did not come to where '
            f'rank {dist.get_rank()} and the others waited: it has stalled or ended. Look at its '
            'log. How long processes wait is env_cfg.dist_cfg.timeout, in seconds. --resume goes '
            'on from the last checkpoint.'
        )
        print_log(message, 'current', logging.ERROR)
        raise TimeoutError(message) from error


def _is_lost_connection(error: RuntimeError) -> bool:
    signs = (
        'Timed out',
        'timed out',
        'Timeout',
        'timeout',
        'Connection closed',
        'Connection reset',
    )
    return dist.is_initialized() and (
        isinstance(error, dist.DistError) or any(sign in str(error) for sign in signs)
    )


def _find_missing() -> list[int]:
    """List processes that wait for nobody."""
    answers: list[list[int]] = []
    asking = threading.Thread(target=lambda: answers.append(_ask_store()), daemon=True)
    asking.start()
    asking.join(5 * ARRIVAL)
    if answers:
        return answers[0]
    return [0] if dist.get_rank() else []  # the store is in a process that does not answer


def _ask_store() -> list[int]:
    """Wait until no further process gives up; so all leave at one time, with one answer."""
    store = dist.distributed_c10d._get_default_store()
    rank, ranks = dist.get_rank(), range(dist.get_world_size())
    try:
        store.set(f'ibot_mm/gave_up/{rank}', str(time.time()))
        while True:
            present = [other for other in ranks if store.check([f'ibot_mm/gave_up/{other}'])]
            times = [float(store.get(f'ibot_mm/gave_up/{other}')) for other in present]
            if len(present) == len(ranks) or time.time() > max(times) + ARRIVAL:
                break
            time.sleep(0.1)
        store.set(f'ibot_mm/looked/{rank}', '1')
    except RuntimeError:  # the store was in a process that has ended
        return [0] if rank else []
    if rank == 0:  # without torchrun the store is here, and ends with this process
        with suppress(RuntimeError):
            looking = [f'ibot_mm/looked/{other}' for other in present]
            store.wait(looking, timedelta(seconds=ARRIVAL))
    return [other for other in ranks if other not in present]


def start_processes(launcher: str) -> None:
    """Make a process group for work without a Runner, on GPUs or not.

    Processes may wait a day for the first one, which works on after what they share.

    Args:
        launcher: 'none' for one process, 'pytorch', 'slurm' or 'mpi'.
    """
    if launcher == 'none':
        return
    timeout = timedelta(days=1)
    if torch.cuda.is_available():
        init_dist(launcher, backend='nccl', timeout=timeout.total_seconds())
    elif not dist.is_initialized():
        dist.init_process_group('gloo', timeout=timeout)


def finish_processes(status: int = 0, together: bool = True) -> None:
    """Leave the process group together, as the last thing that a process does.

    A process that exits early takes the others down. Processes without GPUs end here: threads of
    gloo that outlive the group now and then abort an interpreter that shuts down in the usual way.

    Args:
        status: Exit status. Defaults to 0.
        together: Whether the other processes come here as well. Defaults to True.
    """
    if status:
        tell_status(status)
    if dist.is_available() and dist.is_initialized():
        without_gpu = dist.get_backend() == 'gloo'
        if together:
            dist.barrier()
            dist.destroy_process_group()
        if without_gpu:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    if status:
        raise SystemExit(status)


def tell_status(status: int) -> None:
    """Tell dist_train.sh how this process ends on purpose, so that nothing is started again.

    torchrun itself ends with 1 at every failure.

    Args:
        status: Exit status.
    """
    if file := os.environ.get('IBOT_MM_STATUS'):
        Path(file).write_text(str(status))


def is_restarted() -> bool:
    """Tell whether dist_train.sh, torchrun or Slurm has started this run again."""
    names = ('IBOT_MM_RESTARTS', 'TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT')
    return any(int(os.environ.get(name) or 0) > 0 for name in names)
