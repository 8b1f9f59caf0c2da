# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""One function for many items, in processes that are given what they share once."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

T = TypeVar('T')
_function: Callable[[Any], Any]


def run_all(function: Callable[[Any], T], items: Sequence[Any], num_workers: int) -> Iterator[T]:
    """Call a function for each item.

    Args:
        function: Sent once to each process.
        items: Sent one by one.
        num_workers: Processes; with one, or one item, it is called here.

    Yields:
        Results, as they are done. The first error ends all.
    """
    if min(num_workers, len(items)) <= 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context('spawn')  # forks would share OpenCV's threads
    pool = ProcessPoolExecutor(min(num_workers, len(items)), context, _keep, (function,))
    try:
        for future in as_completed([pool.submit(_call, item) for item in items]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _keep(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _call(item: Any) -> Any:
    return _function(item)
