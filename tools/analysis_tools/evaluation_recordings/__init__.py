# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Replays of recorded evaluations, one file a protocol.

A module here is a replay if it has

- ``RECORDS``: patterns of array names, each of which an own recording has;
- ``INPUTS``: patterns of the arrays that the replay starts from;
- ``replay(recording)``: what our components give, by the name of the recorded array.

All other arrays of the file must be among what ``replay`` returns.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from types import ModuleType

from .recording import Difference, Recording, compare

__all__ = ['Difference', 'Recording', 'find_replay', 'list_replays', 'replay']


def list_replays() -> dict[str, ModuleType]:
    """Protocol -> module, for all files of this folder that replay one."""
    names = sorted(path.stem for path in Path(__file__).parent.glob('[a-z]*.py'))
    modules = {name: import_module(f'.{name}', __name__) for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, 'RECORDS')}


def find_replay(recording: Recording) -> tuple[str, ModuleType]:
    """Find the protocol that a file records, by its arrays.

    Raises:
        ValueError: If no protocol, or more than one, has such arrays.
    """
    replays = list_replays()
    found = [
        name
        for name, module in replays.items()
        if all(_any_matches(recording.arrays, (pattern,)) for pattern in module.RECORDS)
    ]
    if len(found) != 1:
        raise ValueError(
            f'{recording.path} is a recording of {found or "no known protocol"}: its arrays begin '
            f'with {sorted(recording.arrays)[:6]}; known are {", ".join(replays)}'
        )
    return found[0], replays[found[0]]


def replay(path: str | Path) -> tuple[str, dict[str, Difference]]:
    """Replay a recording.

    Args:
        path: File of ``numpy.savez``.

    Returns:
        The protocol, and the difference of each recorded array.

    Raises:
        ValueError: If the protocol is not known, or the replay leaves an array out.
    """
    recording = Recording(path)
    name, module = find_replay(recording)
    values = module.replay(recording)
    outputs = [n for n in recording.arrays if not _any_matches([n], module.INPUTS)]
    if missing := sorted(set(outputs) - set(values)):
        raise ValueError(f'the replay of {name} leaves out {", ".join(missing)} of {path}')
    return name, {n: compare(values[n], recording.arrays[n]) for n in outputs}


def _any_matches(names: Iterable[str], patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
