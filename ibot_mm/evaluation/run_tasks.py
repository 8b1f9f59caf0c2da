# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tasks one after the other, after a check of all that could be refused."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.logging import print_log

from .protocols import PROTOCOLS, Measurement, Options
from .splits import DataError
from .tasks import CHECKS, CLASS_CHECKS, OF_VALIDATION, TASKS, TaskNetwork, check_settings

GROUP = 'robustness'


def name_group(names: Sequence[str], folders: Mapping[str, str], root: str | None) -> list[str]:
    """Put in place of 'robustness' the tasks of it that data is given for.

    Args:
        names: Of protocols and tasks.
        folders: Task -> folder of its own.
        root: Folder of all others. Defaults to None.

    Raises:
        ValueError: If there are no such tasks.
    """
    if GROUP not in names:
        return list(names)
    given = [n for n in CLASS_CHECKS if n in folders or (root is not None and n in OF_VALIDATION)]
    if not given:
        raise ValueError(
            f'robustness has no data: give --data ROOT with train and val for '
            f'{", ".join(OF_VALIDATION)}, and NAME=FOLDER for {", ".join(CLASS_CHECKS)}'
        )
    expanded = [part for name in names for part in (given if name == GROUP else [name])]
    return list(dict.fromkeys(expanded))


def check_names(names: Sequence[str]) -> None:
    """Refuse what is neither a protocol nor a task.

    Raises:
        ValueError: If there is such a name.
    """
    known = *PROTOCOLS, *TASKS
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f'unknown protocol {unknown[0]!r}: choose from {", ".join(known)}')


def check_tasks(names: Sequence[str], folders: Mapping[str, str | None], options: Options) -> None:
    """Refuse tasks whose data or options do not serve, before any weight is loaded.

    Args:
        names: Of tasks.
        folders: Task -> folder of its data.
        options: Settings of all.

    Raises:
        DataError: If a folder is not given, missing or half-prepared.
        ValueError: If options are unknown or of tasks that are not asked for.
    """
    check_settings(options, TASKS, names)
    for name in names:
        folder = folders.get(name)
        if folder is None:
            raise DataError(f'{name} has no data: give --data ROOT or --data {name}=FOLDER')
        if not Path(folder).is_dir():
            raise DataError(f'there is no folder {folder}, the data of {name}')
        CHECKS[name](Path(folder), options)


def check_classes(
    names: Sequence[str],
    folders: Mapping[str, str | None],
    options: Options,
    classes: Sequence[str],
    image_size: int,
) -> None:
    """Refuse data that a classifier does not fit, before anything is computed.

    Args:
        names: Of tasks.
        folders: Task -> folder of its data.
        options: Settings of all.
        classes: Of the classifier.
        image_size: That it sees.

    Raises:
        DataError: If there is such.
    """
    for name in names:
        if name in CLASS_CHECKS:
            CLASS_CHECKS[name](Path(str(folders[name])), options, classes, image_size)


def run_tasks(
    tasks: Sequence[str],
    network: TaskNetwork,
    folders: Mapping[str, str | None],
    options: Options,
) -> dict[str, list[Measurement]]:
    """Measure one task after the other; in all processes, which share images and videos.

    Returns:
        Task -> its measurements.
    """
    found = {}
    network.backbone.to(options.device)
    for name in tasks:
        start = time.perf_counter()
        found[name] = TASKS[name](network, Path(str(folders[name])), options)
        print_log(f'{name}: {time.perf_counter() - start:.1f} s', logger='current')
    return found
