# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Version of the package; ``setup.py`` reads it from here."""

import subprocess
from functools import cache
from pathlib import Path

__version__ = '0.1.0'


@cache
def find_commit() -> str | None:
    """Find the commit of the checkout that the package runs from.

    Returns:
        Its short hash, with ``-dirty`` behind where files are changed; None if the package is
        installed, or git does not tell.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / '.git').exists():  # git would take any repository that lies around it
        return None
    command = ['git', '-C', str(root), 'describe', '--always', '--dirty', '--exclude=*']
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None
