# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Replay recorded evaluations of the published code and print how far ours departs from them.

Which protocol a file records is seen by its arrays. It runs through the components that configs
and tools use; see the folder evaluation_recordings beside this file.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from evaluation_recordings import replay  # noqa: E402


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('files', nargs='+', metavar='FILE', help='recorded evaluation, .npz')
    args = parser.parse_args(argv)

    worst, mismatches = 0.0, 0
    for path in args.files:
        protocol, differences = replay(path)
        table = Table(
            'array', 'worst relative error', 'mismatches', title=f'{protocol}: {Path(path).name}'
        )
        for name, difference in differences.items():
            table.add_row(name, f'{difference.relative_error:.3g}', str(difference.mismatches))
            worst = max(worst, difference.relative_error)
            mismatches += difference.mismatches
        Console().print(table)
    print(f'worst relative error: {worst:.3g}, mismatches: {mismatches}')


if __name__ == '__main__':
    main()
