# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Plot losses, k-NN accuracy and other logged quantities of a training run."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ibot_mm.visualization import save_curves


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('run', type=Path, help='work directory of a run, or a scalars.json')
    parser.add_argument(
        '--out', type=Path, help='PNG to write; default: curves.png in (beside) what is given'
    )
    parser.add_argument(
        '--keys', nargs='+', default=(), metavar='KEY', help='more logged quantities, e.g. lr'
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    folder = args.run.parent if args.run.is_file() else args.run
    print(save_curves(args.out or folder / 'curves.png', args.run, args.keys))


if __name__ == '__main__':
    main()
