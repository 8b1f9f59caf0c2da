# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Make a file of a checkpoint folder that several processes wrote.

    python tools/model_converters/merge_shards.py work_dirs/x/epoch_3.dcp epoch_3.pth

The file holds all that the folder does, so that a training without shards goes on from it. What
reads checkpoints here, this file's other tools included, reads the folder as well.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ibot_mm.engine.checkpointing import CheckpointFileError, read_checkpoint, write_checkpoint


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', type=Path, help='checkpoint folder, such as epoch_3.dcp')
    parser.add_argument('out', type=Path, help='file to write, such as epoch_3.pth')
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    if not args.folder.is_dir():
        sys.exit(f'merge_shards: {args.folder} is not a folder.')
    if args.out.exists() and not args.overwrite:
        sys.exit(f'merge_shards: {args.out} is there already: choose another, or --overwrite.')
    try:
        write_checkpoint(read_checkpoint(args.folder), args.out)
    except CheckpointFileError as error:
        sys.exit(f'merge_shards: {error}')
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
