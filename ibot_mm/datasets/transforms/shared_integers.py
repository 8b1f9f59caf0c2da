# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Numbers that the main process and its data workers see alike."""

import torch


class SharedIntegers:
    """A few integers in shared memory, zero at first.

    Transforms are copied into every worker process, and persistent workers keep their copy for
    the whole run. What the main process writes here reaches them, and the other way round.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._values = torch.zeros(size, dtype=torch.int64).share_memory_()

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> int:
        return int(self._values[index])

    def __setitem__(self, index: int, value: int) -> None:
        self._values[index] = value

    def sum(self) -> int:
        """Sum of all."""
        return int(self._values.sum())

    def __setstate__(self, state: dict) -> None:
        # A deep copy or a plain unpickling has left shared memory; workers start after either.
        self._values = state['_values'].share_memory_()
