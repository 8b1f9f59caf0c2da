# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Settings of single tasks: each has a small dataclass, whose fields the options name."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TypeVar

from ..protocols.measurement import Options

S = TypeVar('S')


def settings_of(options: Options, task: str, kind: type[S]) -> S:
    """Return a task's settings: the defaults, changed by ``options.tasks``.

    Args:
        options: With ``tasks``, such as ``dict(davis=dict(topk=10))``.
        task: Its name.
        kind: Dataclass of its settings.

    Raises:
        ValueError: If a setting is unknown, or of another type than its default.
    """
    given = dict(options.tasks.get(task, {}))
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name, value in given.items():
        if name not in known:
            raise ValueError(
                f'unknown option {task}.{name}: {task} has {", ".join(known) or "no options"}'
            )
        default = known[name].default
        if isinstance(default, float) and isinstance(value, int):
            given[name] = value = float(value)
        if isinstance(default, tuple) and isinstance(value, list | int | float | str):
            given[name] = value = tuple(value) if isinstance(value, list) else (value,)
        if default is not None and type(value) is not type(default):
            raise ValueError(
                f'{task}.{name} must be of the kind of its default {default!r}, got {value!r}'
            )
    return kind(**given)


def check_settings(options: Options, names: Iterable[str], asked: Sequence[str]) -> None:
    """Refuse options of what is not a task, or not asked for.

    Args:
        options: With ``tasks``.
        names: Of all tasks.
        asked: Those asked for.

    Raises:
        ValueError: If there are such.
    """
    for task in options.tasks:
        if task not in (known := tuple(names)):
            raise ValueError(f'options of {task!r}, which is not a task of {", ".join(known)}')
        if task not in asked:
            raise ValueError(f'options of {task}, which is not asked for: add it to the protocols')
