# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluations below a work directory, as tables."""

import json
from pathlib import Path
from typing import Any

from ibot_mm.frozen_evaluation import RESULTS

COMPARISON = 'metrics.json'  # of tools/analysis_tools/compare_initialization.py
SIDES = dict(pretrained='pre-trained', scratch='from scratch')

Table = tuple[list[str], list[list[str]]]  # header and rows


def find_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Read all evaluations below a folder.

    Args:
        folder: A work directory.

    Returns:
        Contents of ``results.json`` files, by their folders.
    """
    paths = sorted(folder.rglob(RESULTS))
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in paths}


def table_of(results: dict[str, Any]) -> Table:
    """Return header and rows of an evaluation's table, published numbers last.

    Args:
        results: Contents of ``results.json``.
    """
    columns = results['summary']
    first = next(iter(columns.values()))
    rows = []
    for row in first:
        key = row['protocol'], row['metric']
        values = {
            name: next((r['value'] for r in of if (r['protocol'], r['metric']) == key), None)
            for name, of in columns.items()
        }
        cells = ['' if value is None else f'{value:.1f}' for value in values.values()]
        published = '' if row['published'] is None else f'{row["published"]:.1f}'
        rows.append([*key, *cells, published])
    header = ['protocol', 'metric', *columns, 'published']
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return header, rows


def find_comparisons(folder: Path) -> dict[str, Table]:
    """Read what was trained from a network's weights and from scratch, below its folder.

    Args:
        folder: A work directory.

    Returns:
        Tables of metrics, by the folder of each comparison.
    """
    found = {}
    for path in sorted(folder.rglob(COMPARISON)):
        sides = json.loads(path.read_text())
        if set(sides) == set(SIDES):
            rows = [
                [name, *(number(sides[side].get(name)) for side in SIDES)]
                for name in sides['pretrained']
            ]
            found[str(path.parent.relative_to(folder))] = ['metric', *SIDES.values()], rows
    return found


def number(value: float | None) -> str:
    """Write a number with four digits; nothing for None, nor for mmdet's -1 (no such objects)."""
    return '' if value is None or value == -1 else f'{value:.4g}'
