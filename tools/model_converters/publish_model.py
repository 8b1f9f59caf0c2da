# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Strip a checkpoint of optimizer, schedules and logs, and put a hash into its name.

    python tools/model_converters/publish_model.py work_dirs/ibot_vitb16/epoch_400.pth

writes work_dirs/ibot_vitb16/epoch_400-<hash>.safetensors. A name that ends in .pth gives a file of
torch, as mmengine's own loaders need it.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ibot_mm.checkpoint import CheckpointError, publish


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='checkpoint of a training, or a converted one')
    parser.add_argument(
        'out',
        nargs='?',
        help='.safetensors or .pth, before the hash is put into it; default: beside the checkpoint',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace what is there')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    out = args.out or Path(args.checkpoint).with_suffix('.safetensors')
    if not args.out and '::' in args.checkpoint.replace('://', '::'):
        sys.exit(f'publish_model: name the file to write, {args.checkpoint} is not a file.')
    try:
        path, left_out = publish(args.checkpoint, out, args.overwrite)
    except CheckpointError as error:
        sys.exit(f'publish_model: {error}')
    print(f'{path} ({path.stat().st_size / 1e6:.1f} MB)')
    if left_out:
        print(f'left out beside optimizer and logs: {len(left_out)} tensors, {left_out[0]} first')


if __name__ == '__main__':
    main()
