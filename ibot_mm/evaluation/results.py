# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Results of an evaluation: a table, a file with every number."""

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from .protocols import Measurement, best_of
from .published import published_number, published_result
from .tasks import TASKS

SIZES = ('images', 'queries', 'videos', 'objects', 'distractors')  # of data, in settings
PACKAGES = ('torch', 'torchvision', 'numpy', 'scipy', 'scikit-learn', 'timm')
FAMILIES = (
    ('onedl-mmengine', 'mmengine'),
    ('onedl-mmcv', 'mmcv'),
    ('onedl-mmpretrain', 'mmpretrain'),
)


def summary_rows(
    protocol: str, measurements: Sequence[Measurement], architecture: str, num_classes: int
) -> list[dict[str, Any]]:
    """Return the numbers of a protocol that are quoted, and the published ones.

    Args:
        protocol: Its name.
        measurements: All of it.
        architecture: Whose published numbers to look for.
        num_classes: Of the data.

    Returns:
        Dicts of ``protocol``, ``metric``, ``value``, ``setting`` and ``published``.
    """
    if protocol in TASKS:
        return _task_rows(protocol, measurements, architecture)
    if protocol in ('clustering', 'kmeans'):
        (found,) = measurements
        rows = [(protocol, name, value, found.setting) for name, value in found.metrics.items()]
        details = [name for _, name, _, _ in rows]
    elif protocol == 'few_labels':
        groups: dict[str, list[Measurement]] = {}
        for measurement in measurements:
            setting = measurement.setting
            groups.setdefault(f'{setting["share"]} {setting["protocol"]}', []).append(measurement)
        best = {name: best_of(group) for name, group in groups.items()}
        rows = [
            (
                f'{100 * m.setting["share"]:g} % labels, {m.setting["protocol"]}',
                'top1',
                m.main,
                m.setting,
            )
            for m in best.values()
        ]
        details = list(best)
    else:
        found = best_of(measurements)
        rows, details = [(protocol, 'top1', found.main, found.setting)], ['']
    return [
        dict(
            protocol=name,
            metric=metric,
            value=value,
            setting=setting,
            published=published_number(architecture, protocol, detail, num_classes),
        )
        for (name, metric, value, setting), detail in zip(rows, details)
    ]


def _task_rows(
    task: str, measurements: Sequence[Measurement], architecture: str
) -> list[dict[str, Any]]:
    """Return all metrics of what a task measured, each by its best setting."""
    groups: dict[str, list[Measurement]] = {}
    for measurement in measurements:
        measured = [value for value in measurement.setting.values() if isinstance(value, str)]
        groups.setdefault(' '.join([task, *measured]), []).append(measurement)
    return [
        dict(
            protocol=title,
            metric=metric,
            value=value,
            setting=best.setting,
            published=published_result(architecture, title, metric, best.setting),
            task=task,
        )
        for title, best in ((title, best_of(group)) for title, group in groups.items())
        for metric, value in best.metrics.items()
    ]


def make_table(columns: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> Table:
    """Put the quoted numbers of one network or several side by side.

    Args:
        columns: Title -> rows as of :func:`summary_rows`, the network that counts first.
        title: Of the table.
    """
    first = next(iter(columns.values()))
    with_published = any(row['published'] is not None for row in first)
    table = Table('protocol', 'metric', *columns, 'best setting', title=title)
    if with_published:
        in_tasks = any('task' in row for row in first)
        table.add_column('published' if in_tasks else 'published, ImageNet-1K')
    keyed = {
        name: {(row['protocol'], row['metric']): row for row in rows}
        for name, rows in columns.items()
    }
    for row in first:
        key = row['protocol'], row['metric']
        values = [f'{rows[key]["value"]:.1f}' if key in rows else '' for rows in keyed.values()]
        cells = [*key, *values, _setting(row['setting'])]
        if with_published:
            cells.append('' if row['published'] is None else f'{row["published"]:.1f}')
        table.add_row(*cells)
    return table


def _setting(setting: Mapping[str, Any]) -> str:
    hidden = ('share', 'protocol', 'prototypes_used', 'clusters', *SIZES)
    shown = {n: value for n, value in setting.items() if not isinstance(value, str | bool)}
    return ', '.join(f'{name}={value:g}' for name, value in shown.items() if name not in hidden)


def versions() -> dict[str, str]:
    """List the versions of Python, this project and what numbers could depend on."""
    from ibot_mm.version import __version__

    found = {'python': platform.python_version(), 'ibot_mm': __version__}
    for names in (*((name,) for name in PACKAGES), *FAMILIES):
        for name in names:
            try:
                found[name] = metadata.version(name)
                break
            except metadata.PackageNotFoundError:
                continue
    return found


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    """Write JSON, in one go."""
    temporary = path.with_name(f'{path.name}.tmp')
    temporary.write_text(json.dumps(results, indent=2) + '\n')
    temporary.replace(path)
