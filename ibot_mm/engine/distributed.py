# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Several processes on a machine without GPU."""

import datetime
import logging
import os
import sys

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import init_dist


def prepare_cpu_processes(cfg: Config) -> None:
    """Let a distributed run work without GPUs; does nothing where there are some.

    mmengine sets a CUDA device while it initializes and hands a device index to the model's
    wrapper. On CPU the gloo group is made here, ahead of the Runner, and the wrapper gets none.

    Args:
        cfg: Config with ``launcher`` set; ``model_wrapper_cfg`` is filled in or changed.
    """
    if cfg.get('launcher', 'none') == 'none' or torch.cuda.is_available():
        return
    if not dist.is_initialized():
        dist.init_process_group('gloo')
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
    )
    cfg.model_wrapper_cfg = wrapper | dict(cfg.get('model_wrapper_cfg') or {}, device_ids=None)


def start_processes(launcher: str) -> None:
    """Make a process group for work without a Runner, on GPUs or not.

    Processes may wait a day for the first one, which works on after what they share.

    Args:
        launcher: 'none' for one process, 'pytorch', 'slurm' or 'mpi'.
    """
    if launcher == 'none':
        return
    timeout = datetime.timedelta(days=1)
    if torch.cuda.is_available():
        init_dist(launcher, backend='nccl', timeout=timeout.total_seconds())
    elif not dist.is_initialized():
        dist.init_process_group('gloo', timeout=timeout)


def finish_processes() -> None:
    """Leave the process group together, as the last thing that a process does.

    A process that exits early takes the others down. Processes without GPUs end here: threads of
    gloo that outlive the group now and then abort an interpreter that shuts down in the usual way.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return
    without_gpu = dist.get_backend() == 'gloo'
    dist.barrier()
    dist.destroy_process_group()
    if without_gpu:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
