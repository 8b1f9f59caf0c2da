# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluations of several seeds, side by side."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .statistics import paired_difference, summarize

RESULTS = 'results.json'
Numbers = dict[str, dict[int, float]]  # what was measured -> seed -> value


def read_evaluations(folders: Sequence[Path], network: str, every_setting: bool) -> Numbers:
    """Read evaluations of trainings that differ in their seed.

    Args:
        folders: Of ``tools/evaluate.py --out``; the number at the end of the name is the seed.
        network: Such as 'teacher' or 'untrained', as named in ``results.json``.
        every_setting: Whether to take every setting, or the numbers of the table alone.

    Returns:
        Protocol, setting and metric -> seed -> value.

    Raises:
        FileNotFoundError: If a folder does not have results.
        ValueError: If a name does not end with a number, a seed comes twice or the network was
            not measured.
    """
    found: Numbers = {}
    seeds: dict[int, Path] = {}
    for folder in folders:
        number = re.search(r'(\d+)$', folder.name)
        if number is None:
            raise ValueError(f'{folder}: the name must end with the seed, as online_0 does')
        seed = int(number[1])
        if seed in seeds:
            raise ValueError(f'seed {seed} comes twice: {seeds[seed]} and {folder}')
        seeds[seed] = folder
        if not (folder / RESULTS).is_file():
            raise FileNotFoundError(f'{folder} does not have {RESULTS}: run tools/evaluate.py')
        for name, value in _numbers(folder / RESULTS, network, every_setting).items():
            found.setdefault(name, {})[seed] = value
    return found


def _numbers(path: Path, network: str, every_setting: bool) -> dict[str, float]:
    results = json.loads(path.read_text())
    networks = results['summary']
    if network not in networks:
        raise ValueError(f'{path} does not have {network!r}, only {", ".join(networks)}')
    if not every_setting:
        return {f'{row["protocol"]} {row["metric"]}': row['value'] for row in networks[network]}
    return {
        ' '.join([protocol, *(f'{k}={v}' for k, v in one['setting'].items()), metric]): value
        for protocol, measurements in results['measurements'][network].items()
        for one in measurements
        for metric, value in one['metrics'].items()
    }


def compare_evaluations(groups: Mapping[str, Numbers]) -> list[list[str]]:
    """Compose the rows of a table: mean ± deviation of each group, differences to the first.

    Args:
        groups: Title -> what :func:`read_evaluations` found.

    Returns:
        The header, then one row for each number that any group has.
    """
    first, *others = groups
    header = ['', *groups, *(f'{name} - {first}, 95 % interval' for name in others)]
    names = list(dict.fromkeys(name for numbers in groups.values() for name in numbers))
    rows = [header]
    for name in names:
        of_groups = [numbers.get(name, {}) for numbers in groups.values()]
        means = [str(summarize(list(of.values()))) if of else '' for of in of_groups]
        differences = [str(paired_difference(of, of_groups[0]) or '') for of in of_groups[1:]]
        rows.append([name, *means, *differences])
    return rows
