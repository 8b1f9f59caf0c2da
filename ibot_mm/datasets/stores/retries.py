# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How often a store is asked."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mmengine.logging import print_log

from ibot_mm.datasets.store_error import StoreError

T = TypeVar('T')

EXTRA = "pip install 'ibot-mm[stores]'"
# What does not change by asking again. HTTP has two statuses below 500 that do: 408 and 429.
PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, TypeError)
TEMPORARY_STATUS = (408, 429)


@dataclass(frozen=True)
class Retries:
    """How often, and how long, a store is asked.

    Args:
        attempts: Tries of one request, the first included. Defaults to 4.
        timeout: Seconds that one try may take. Defaults to 60.
        wait: Seconds before the second try, doubled before each further one. Defaults to 0.5.

    Raises:
        ValueError: If a number is out of its range.
    """

    attempts: int = 4
    timeout: float = 60.0
    wait: float = 0.5

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f'attempts of a store must be at least 1, got {self.attempts}')
        if self.timeout <= 0 or self.wait < 0:
            raise ValueError(
                f'timeout of a store must be above 0 and wait at least 0 seconds, got '
                f'timeout={self.timeout}, wait={self.wait}'
            )

    def call(self, request: str, function: Callable[[], T]) -> T:
        """Ask until there is an answer.

        Args:
            request: What is asked for, for messages.
            function: Asks once.

        Returns:
            What the function returns.

        Raises:
            StoreError: All tries failed, or asking again is of no use. Names the last reason.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return function()
            except StoreError:
                raise
            except Exception as error:  # every library has errors of its own
                reason = f'{type(error).__name__}: {error}'
                if is_permanent(error):
                    raise StoreError(f'{request} failed ({reason})') from error
                if attempt == self.attempts:
                    raise StoreError(
                        f'{request} failed {attempt} times ({reason}). If the store is slow or '
                        'busy, raise attempts or timeout of the data set; a training that stops '
                        'here goes on by --resume.'
                    ) from error
            print_log(
                f'{request} failed ({reason}); try {attempt + 1} of {self.attempts}',
                'current',
                logging.WARNING,
            )
            time.sleep(self.wait * 2 ** (attempt - 1))
        raise AssertionError('the last attempt returns or raises')


def is_permanent(error: BaseException) -> bool:
    """Tell whether asking again is of no use."""
    status = getattr(error, 'status', None)
    if isinstance(status, int):
        return 400 <= status < 500 and status not in TEMPORARY_STATUS
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and cause is not None:
        return is_permanent(cause)  # fsspec's HTTP says it of every failure
    return isinstance(error, PERMANENT)
