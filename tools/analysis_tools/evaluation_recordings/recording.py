# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A recorded evaluation, and how far a value departs from it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Recording:
    """Arrays and settings of a recorded evaluation.

    Args:
        path: File of ``numpy.savez`` with ``config_json``.

    Attributes:
        arrays (dict): All arrays but the settings, by name.
        settings (dict): What was evaluated how.

    Raises:
        ValueError: If the file has no settings.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        with np.load(path, allow_pickle=False) as file:
            self.arrays: dict[str, np.ndarray] = {name: file[name] for name in file.files}
        if 'config_json' not in self.arrays:
            raise ValueError(f"{path} is not a recording: it has no array 'config_json'")
        self.settings: dict[str, Any] = json.loads(str(self.arrays.pop('config_json')))

    def tensor(self, name: str) -> Tensor:
        """Return an array; floats in float64, integers in int64."""
        array = self.arrays[name]
        if array.dtype.kind == 'b':
            return torch.from_numpy(array)
        return torch.from_numpy(array.astype(np.float64 if array.dtype.kind == 'f' else np.int64))

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All arrays whose names start with a prefix, without it."""
        return {n.removeprefix(prefix): self.tensor(n) for n in self.arrays if n.startswith(prefix)}


@dataclass(frozen=True)
class Difference:
    """How far a value departs from a recorded one.

    Args:
        relative_error: Largest difference over the largest recorded magnitude, for floats.
        mismatches: Number of entries that differ, for integers, masks and names.
    """

    relative_error: float = 0.0
    mismatches: int = 0


def compare(value: Any, recorded: np.ndarray) -> Difference:
    """Compare a value with a recorded array.

    Floats may be NaN where the recorded ones are. A value of another shape differs in everything.

    Args:
        value: Tensor, array, number or list.
        recorded: What it should be.
    """
    value = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if value.shape != recorded.shape:
        return Difference(float('inf'), recorded.size)
    if recorded.dtype.kind != 'f':
        return Difference(mismatches=int(np.count_nonzero(value != recorded)))
    recorded, value = recorded.astype(np.float64), value.astype(np.float64)
    known = np.isfinite(recorded)
    same_gaps = (np.isnan(value) == np.isnan(recorded)) & (known | np.isnan(recorded))
    if not np.isfinite(value[known]).all() or not same_gaps.all():
        return Difference(float('inf'), int(np.count_nonzero(~same_gaps)))
    largest = np.abs(recorded[known]).max(initial=0.0) or 1.0
    return Difference(float(np.abs(value - recorded)[known].max(initial=0.0) / largest))
