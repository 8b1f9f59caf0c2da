# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Start this machine's processes of a training on several; dist_train.sh calls it.

This is torchrun, with its arguments and its c10d rendezvous. It differs in three points:

- Processes that end on purpose are not started again: a state saved on request, a full disk, a
  config with faults. The other machines then end, too.
- All processes know alike whether they go on with a run, also those of a machine that came later.
- Missing machines, or a lost store, end with one line and a status of their own.
"""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from torch.distributed import run
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.rendezvous.api import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousTimeoutError,
)
from torch.distributed.launcher import api

MISSING = 69  # EX_UNAVAILABLE of sysexits.h: start all again, when there are machines


class Agent(LocalElasticAgent):
    """Torch's agent, which starts, watches and ends the processes of a machine."""

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        _told().write_text('')  # else it may be of those that this agent has ended itself
        rendezvous = worker_group.spec.rdzv_handler
        os.environ['IBOT_MM_RESTARTS'] = str(rendezvous._state_holder.state.round)
        return super()._start_workers(worker_group)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result = super()._monitor_workers(worker_group)
        if result.is_failed() and _told().read_text():
            if worker_group.spec.rdzv_handler.num_nodes_waiting():
                # Another machine has ended its own for the sake of one that came: all start again.
                return RunResult(state=WorkerState.HEALTHY)
            self._remaining_restarts = 0
        return result


def _told() -> Path:
    """Where processes that end on purpose tell their status."""
    return Path(os.environ['IBOT_MM_STATUS'])


def _end_without(missing: str) -> NoReturn:
    """End since machines are missing, also where processes that were ended for it have saved."""
    _told().write_text('')
    print(f'dist_train: {missing}', file=sys.stderr)
    sys.exit(MISSING)


def main() -> None:
    # Else torch keeps the store of the first start, whose machine may be lost.
    os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    api.LocalElasticAgent = Agent
    try:
        run.main()
    except RendezvousClosedError:
        sys.exit(
            'dist_train: the run has ended on another machine, see its log. To start a run at a '
            'store that had one, give another RDZV_ID.'
        )
    except RendezvousTimeoutError:
        _end_without('too few machines came in time (NNODES, RDZV_CONF).')
    except RendezvousConnectionError as error:
        _end_without(f'the store at MASTER_ADDR:PORT is lost, or cannot be reached: {error}')


if __name__ == '__main__':
    main()
