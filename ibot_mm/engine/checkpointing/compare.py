# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Comparison of two checkpoints, bit for bit."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# Of a place and a time, not of the training.
_IGNORED = (
    'meta.time', 'meta.experiment_name', 'meta.cfg', 'meta.settings', 'log_history.train/time',
    'log_history.train/data_time', 'log_history.train/img_per_s', 'log_history.train/waiting',
    'log_history.train/memory', 'log_history.val/time', 'log_history.val/data_time',
    'log_history.train/data_wait',
)  # fmt: skip


def first_difference(expected: Any, given: Any, key: str = '') -> str | None:
    """Describe the first difference between two checkpoints, or None where there is none.

    Clocks, names of runs and configs are passed over.

    Args:
        expected: A checkpoint, or a part of it.
        given: Another one.
        key: Where the part is, for the message. Defaults to '', the whole.
    """
    if key in _IGNORED:
        return None
    if isinstance(expected, Mapping) and isinstance(given, Mapping):
        for name in [*expected, *(name for name in given if name not in expected)]:
            path = f'{key}.{name}' if key else str(name)
            if name not in given or name not in expected:
                if path in _IGNORED:
                    continue
                return f'{path} is in one of them alone'
            if difference := first_difference(expected[name], given[name], path):
                return difference
        return None
    if isinstance(expected, list | tuple) and isinstance(given, list | tuple):
        if len(expected) != len(given):
            return f'{key}: {len(expected)} entries, not {len(given)}'
        for index, pair in enumerate(zip(expected, given)):
            if difference := first_difference(*pair, f'{key}.{index}'):
                return difference
        return None
    if isinstance(expected, Tensor) and isinstance(given, Tensor):
        if expected.shape != given.shape or expected.dtype != given.dtype:
            return f'{key}: {expected.dtype} {tuple(expected.shape)}, not {given.dtype} ' \
                f'{tuple(given.shape)}'  # fmt: skip
        if torch.equal(expected, given) or torch.equal(
            torch.nan_to_num(expected, nan=1e30), torch.nan_to_num(given, nan=1e30)
        ):
            return None
        largest = (expected.double() - given.double()).abs().max().item()
        count = (expected != given).sum().item()
        return f'{key}: {count} of {expected.numel()} values differ, at most by {largest:.3g}'
    return None if expected == given else f'{key}: {expected!r}, not {given!r}'
