# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Where a training starts: from which checkpoint, and what becomes of the others in its folder."""

import logging
from pathlib import Path

from mmengine.logging import print_log

from .errors import CheckpointFileError
from .search import find_newest, list_checkpoints, set_aside


def find_start(
    folder: Path, named: str | None, resume: bool, start_again: bool = False
) -> str | None:
    """Find the file to start from, and put the folder in order. One process calls it.

    Args:
        folder: Where the checkpoints of the training will lie.
        named: ``load_from`` of the config.
        resume: Whether to go on with a training: with ``named``, or with the newest valid
            checkpoint in the folder.
        start_again: Whether a new training may move the checkpoints of another one aside.
            Defaults to False.

    Returns:
        The file, or None to start from scratch.

    Raises:
        CheckpointFileError: If a training would start from scratch beside checkpoints. Names the
            way to go on with them, and the way to start again.
    """
    if resume and named is None:
        return _find_newest(folder)
    present = list_checkpoints(folder)
    names = [path.name for path in present]
    if resume and named and Path(named).name in names and Path(named).parent.samefile(folder):
        newer = present[: names.index(Path(named).name)]
        set_aside(newer, f'Going on from {Path(named).name}, which is not the newest')
    elif present and start_again:
        set_aside(present, 'Starting again')
    elif present:
        raise CheckpointFileError(
            f'{folder} holds {len(present)} checkpoints of a training, the newest '
            f'{present[0].name}. To go on with it, use --resume (resume=True). '
            f'{_way_to_start_again(folder)}'
        )
    return named


def _find_newest(folder: Path) -> str | None:
    newest, passed = find_newest(folder)
    for path, fault in passed:
        print_log(f'Passed over checkpoint {path}: it {fault}.', 'current', level=logging.WARNING)
    if newest is None and passed:
        raise CheckpointFileError(
            f'None of the {len(passed)} checkpoints in {folder} is valid ({passed[0][0].name} '
            f'{passed[0][1]}). {_way_to_start_again(folder)}'
        )
    if newest is None:
        print_log(f'No checkpoint in {folder}: starting from scratch.', 'current')
        return None
    # A file that was passed over must not count as newer than those that follow now.
    set_aside([path for path, _ in passed], 'Passed over')
    print_log(f'Resuming from the newest valid checkpoint, {newest}.', 'current')
    return str(newest)


def _way_to_start_again(folder: Path) -> str:
    return (
        'To start again, choose another --work-dir, or use --start-again '
        '(default_hooks.checkpoint.start_again=True), which moves them to a folder in '
        f'{folder}.'
    )
