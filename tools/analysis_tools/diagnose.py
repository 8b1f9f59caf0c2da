# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Say whether a training is healthy, by its logs, and what to change."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ibot_mm.diagnosis import print_diagnosis


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path, help='work directory of a pre-training')
    parser.add_argument('--out', type=Path, help='PNG to write; default: WORK_DIR/health.png')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        print_diagnosis(args.work_dir, args.out)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None


if __name__ == '__main__':
    main()
