# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluations below a work directory, as tables."""

import json
from pathlib import Path
from typing import Any

from ibot_mm.frozen_evaluation import RESULTS

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
