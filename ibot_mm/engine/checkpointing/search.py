# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Checkpoints of a training in its folder: which are there, which is the newest good one.

``epoch_3.pth`` is the state after 3 epochs, ``epoch_3_iter_20.pth`` 20 iterations later,
``iter_700.pth`` that after 700 iterations. Of a model that processes share the names end in
``.dcp``: these are folders. ``last_checkpoint`` holds the name of the last one.
"""

import re
import time
from pathlib import Path

from mmengine.logging import print_log

from .read import find_fault
from .shard_writing import delete_checkpoint
from .shards import SUFFIX

LAST = 'last_checkpoint'
_NAME = re.compile(r'(epoch|iter)_(\d+)(?:_iter_(\d+))?\.(?:pth|dcp)')


def list_checkpoints(folder: str | Path) -> list[Path]:
    """Return all checkpoints of a folder from which a training could go on, newest first.

    Their names tell which is newer, so that copies may have any date; only between those that
    count epochs and those that count iterations dates decide.

    Args:
        folder: May be missing.
    """
    families: dict[str, list[tuple[int, int, Path]]] = {'epoch': [], 'iter': []}
    for path in (*Path(folder).glob('*.pth'), *Path(folder).glob(f'*{SUFFIX}')):
        if match := _NAME.fullmatch(path.name):
            families[match[1]].append((int(match[2]), int(match[3] or 0), path))
    queues = [[path for *_, path in sorted(family)] for family in families.values()]
    found = []
    while any(queues):
        newest = max((queue for queue in queues if queue), key=lambda q: q[-1].stat().st_mtime_ns)
        found.append(newest.pop())
    return found


def find_newest(folder: str | Path) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Return the newest checkpoint that is whole, and those that were passed over, with the reason.

    Args:
        folder: May be missing.
    """
    passed: list[tuple[Path, str]] = []
    for path in list_checkpoints(folder):
        fault = find_fault(path)
        if fault is None:
            return path, passed
        passed.append((path, fault))
    return None, passed


def keep_newest(folder: str | Path, number: int) -> None:
    """Delete all checkpoints of a folder but the newest. One process calls it.

    Args:
        folder: The folder.
        number: How many to keep.
    """
    for path in list_checkpoints(folder)[number:]:
        delete_checkpoint(path)


def set_aside(checkpoints: list[Path], reason: str) -> None:
    """Move checkpoints that are not of this training into a folder beside them; nothing is lost.

    One process calls it.

    Args:
        checkpoints: Of one folder.
        reason: For the log.
    """
    if not checkpoints:
        return
    top = checkpoints[0].parent
    target = top / f'before_{time.strftime("%Y%m%d_%H%M%S")}'
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f'{target.name.split("-")[0]}-{number}')
    target.mkdir()
    for path in [*checkpoints, top / LAST]:
        if path.exists():
            path.rename(target / path.name)
    print_log(
        f'{reason}: moved {", ".join(path.name for path in checkpoints)} to {target}.', 'current'
    )
