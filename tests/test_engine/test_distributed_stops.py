# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Ends of several processes: one that stalls is named by the others."""

import time

import pytest
import torch.distributed as dist
from mmengine.config import Config

from ibot_mm.engine.distributed import (
    is_restarted,
    naming_stalled_processes,
    prepare_cpu_processes,
)


@pytest.mark.slow
def test_a_stalled_process_is_named_by_all_others(call_together):
    """Also where the group's store is in the first process, as under Slurm."""
    first, _, last = call_together(__file__, num_processes=3, may_fail=True)
    for result in (first, last):
        assert result.returncode != 0
        assert 'TimeoutError: Rank 1 of 3 did not come to where rank' in result.stderr
        assert 'env_cfg.dist_cfg.timeout' in result.stderr


@pytest.mark.parametrize('timeout', [0, -3, 'long'])
def test_a_timeout_is_a_positive_number(timeout):
    cfg = Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(timeout=timeout))))
    with pytest.raises(ValueError, match='env_cfg.dist_cfg.timeout is .*positive number'):
        prepare_cpu_processes(cfg)


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


if __name__ == '__main__':
    prepare_cpu_processes(Config(dict(launcher='pytorch', env_cfg=dict(dist_cfg=dict(timeout=3)))))
    if dist.get_rank() == 1:
        time.sleep(15)
    with naming_stalled_processes():
        dist.barrier()
