# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Ranges of numbers that a user gives."""

from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def check_ranges(owner: str, ranges: Mapping[str, Mapping[str, Any]]) -> None:
    """Check numbers against intervals, and name all that lie outside at once.

    Args:
        owner: Whose numbers they are, for the message.
        ranges: For each interval, as in mathematics ('[0, 1)', '(0, inf)') and for whole numbers
            with 'int' before it ('int [1, inf)'), the numbers by name. A sequence means each of
            its numbers, None stands for a number that is not given.

    Raises:
        ValueError: If there is one outside, or something that is not a number.

    Example:
        >>> check_ranges('Blur', {'[0, 1]': dict(prob=1.2), 'int [1, inf)': dict(size=3)})
        Traceback (most recent call last):
            ...
        ValueError: Blur: prob must be a number in [0, 1], got 1.2
    """
    faults = []
    for interval, values in ranges.items():
        kind = 'a whole number' if interval.startswith('int ') else 'a number'
        bounds = interval.removeprefix('int ')
        for name, value in values.items():
            many = isinstance(value, Sequence) and not isinstance(value, str)
            numbers = value if many else [value]
            if not all(number is None or _is_inside(number, interval) for number in numbers):
                each = 'each be' if many else 'be'
                faults.append(f'{name} must {each} {kind} in {bounds}, got {value!r}')
    if faults:
        raise ValueError(f'{owner}: {"; ".join(faults)}')


def _is_inside(number: Any, interval: str) -> bool:
    wanted = Integral if interval.startswith('int ') else Real
    if not isinstance(number, wanted) or isinstance(number, bool):
        return False
    low, high = (float(end) for end in interval.removeprefix('int ')[1:-1].split(','))
    value = float(number)
    above = value >= low if '[' in interval else value > low
    return above and (value <= high if ']' in interval else value < high)
