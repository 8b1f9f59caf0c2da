# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Arguments of a base class that a backbone settles itself."""

from typing import Any


def drop_settled(title: str, kwargs: dict[str, Any], **settled: Any) -> None:
    """Take arguments out of ``kwargs`` that only say what is so in any case.

    Args:
        title: Class of the backbone, for messages.
        kwargs: Given arguments; changed in place.
        settled: Their only values.

    Raises:
        ValueError: If one has another value.
    """
    for name, value in settled.items():
        given = kwargs.pop(name, value)
        given = tuple(given) if isinstance(given, list) else given
        if given != value:
            raise ValueError(f'{title} has {name}={value!r}, got {given!r}: leave it out.')
