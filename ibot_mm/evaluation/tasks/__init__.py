# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluations that need the network itself, or data of their own; one file each.

A task is a function of a network, the folder of its data and :class:`Options` that returns
measurements. Text in a measurement's setting says what was measured and makes a row of the table;
numbers are what was tuned, of which the best is the result. The check of a task refuses missing or
half-prepared data before any weight is loaded.
"""

from collections.abc import Callable
from pathlib import Path

from ..protocols.measurement import Measurement, Options
from .copydays import check_copydays, copydays
from .davis import check_davis, davis
from .dense import check_dense, dense
from .network import TaskNetwork
from .part_linear import check_part_linear, part_linear
from .retrieval import check_retrieval, retrieval
from .settings import check_settings, settings_of

Task = Callable[[TaskNetwork, Path, Options], list[Measurement]]
Check = Callable[[Path, Options], None]
TASKS: dict[str, Task] = dict(
    retrieval=retrieval,
    copydays=copydays,
    davis=davis,
    part_linear=part_linear,
    dense=dense,
)
CHECKS: dict[str, Check] = dict(
    retrieval=check_retrieval,
    copydays=check_copydays,
    davis=check_davis,
    part_linear=check_part_linear,
    dense=check_dense,
)

__all__ = [
    'CHECKS',
    'TASKS',
    'Check',
    'Task',
    'TaskNetwork',
    'check_settings',
    'settings_of',
]
