# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Two processes with half the batch each train as one process with all of it."""

import sys
from pathlib import Path

import pytest
import torch
from equal_training import BAD_STEP, VARIANTS, prepare_process, run, state_of
from mmengine.dist import is_main_process

from ibot_mm.engine.distributed import finish_processes


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path, call_together, double):
    call_together(__file__, tmp_path)
    for variant in VARIANTS:
        together = torch.load(tmp_path / f'{variant}.pth')
        alone = state_of(*run(VARIANTS[variant], tmp_path / 'alone'))
        torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-10, equal_nan=True)
        finite = alone.pop('losses').isfinite().all(dim=1).tolist()
        assert finite == [step != BAD_STEP or 'overflows' not in variant for step in range(4)]
        assert all(tensor.isfinite().all() for tensor in alone.values())


def main(folder):
    prepare_process()
    for variant in VARIANTS:
        runner, losses = run(VARIANTS[variant], folder / 'together', launcher='pytorch')
        assert runner.cfg.model_wrapper_cfg.gradient_as_bucket_view
        state = state_of(runner, losses)
        if is_main_process():
            torch.save(state, folder / f'{variant}.pth')
    finish_processes()


if __name__ == '__main__':
    main(Path(sys.argv[1]))
