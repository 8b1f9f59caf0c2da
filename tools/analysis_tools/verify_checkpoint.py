# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Print what a checkpoint holds, whether it is whole, and which of this project's configs it fits.

Ends with 1 if something is missing, unknown or not finite, or the file cannot be used.
"""

import argparse
import sys
from collections.abc import Sequence

from ibot_mm.checkpoint import CheckpointError, verify_checkpoint


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='file, folder, address or package::model')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        verification = verify_checkpoint(args.checkpoint)
    except CheckpointError as error:
        sys.exit(f'verify_checkpoint: {error}')
    print(verification)
    sys.exit(0 if verification.is_sound else 1)


if __name__ == '__main__':
    main()
