# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Measure each channel of a folder of images, and print the lines for a config.

    python tools/dataset_converters/measure_channels.py data/scenes --channels 12
    python tools/dataset_converters/measure_channels.py data/scenes --channels 12 --in-range 0 10000

The first shows the values as they are stored, to choose a range; the second, with the range, mean
and deviation on the scale of 0 to 255.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from ibot_mm.datasets.find_images import EXTENSIONS, find_images
from ibot_mm.datasets.measure_channels import PERCENTILES, measure_channels, stored_percentiles
from ibot_mm.datasets.transforms import LoadImage


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='folder of images, with or without sub-folders')
    parser.add_argument(
        '--channels', type=int, nargs='+', required=True,
        help='their number, or after --channels several numbers of those to read, from 0',
    )  # fmt: skip
    parser.add_argument(
        '--in-range', type=float, nargs='+', metavar='VALUE',
        help='values that become 0 and 255: one pair, or a pair for each channel',
    )  # fmt: skip
    parser.add_argument('--in-percentiles', type=float, nargs=2, metavar=('LOW', 'HIGH'))
    parser.add_argument('--channel-axis', type=int, default=-1, help='of .npy: -1 or 0')
    parser.add_argument(
        '--extensions', nargs='+', default=EXTENSIONS, help='endings of names, such as .npy'
    )
    parser.add_argument(
        '--number', type=int, default=1000, help='images, spread over all (default: %(default)s)'
    )
    return parser.parse_args(argv)


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of LoadImage."""
    options: dict[str, Any] = dict(
        channels=args.channels[0] if len(args.channels) == 1 else args.channels
    )
    if args.in_range:
        if len(args.in_range) % 2:
            raise ValueError(f'--in-range needs pairs of values, got {args.in_range}')
        pairs = list(zip(args.in_range[::2], args.in_range[1::2]))
        options['in_range'] = pairs[0] if len(pairs) == 1 else pairs
    if args.in_percentiles:
        options['in_percentiles'] = tuple(args.in_percentiles)
    if args.channel_axis != -1:
        options['channel_axis'] = args.channel_axis
    return options


def show(title: str, columns: Sequence[str], rows: np.ndarray) -> None:
    """Print a line for each channel."""
    table = Table('channel', *columns, title=title, title_justify='left')
    for number, row in enumerate(rows):
        table.add_row(str(number), *(f'{value:.5g}' for value in row))
    Console(width=120).print(table)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        options = options_of(args)
        load = LoadImage(**options, to_float32=True)
        found = find_images(args.folder, tuple(args.extensions))
        step = max(len(found.images) // args.number, 1)
        names = found.images[::step][: args.number]
        paths = [str(Path(args.folder, name)) for name in names]
        print(f'{args.folder}: {found}; {len(paths)} are read')
        stored = stored_percentiles(track(paths, 'Values as stored'), load)
        show('values as stored', [f'{percent}%' for percent in PERCENTILES], stored.T)
        if not (args.in_range or args.in_percentiles):
            print(
                'Give --in-range, for example 0 and a value that hardly any pixel exceeds. Images'
            )
            print('of 8 bits need none: --in-range 0 255 measures them.')
            return
        measured = measure_channels(track(paths, 'Mean and deviation'), load)
    except (RuntimeError, ValueError, OSError) as error:
        sys.exit(f'measure_channels: {error}')
    rows = np.array([measured.mean, measured.std, measured.lowest, measured.highest]).T
    show('from 0 to 255', ['mean', 'deviation', 'share at 0', 'share at 255'], rows)
    words = ', '.join(f'{name}={value!r}' for name, value in options.items())
    mean, std = ([round(value, 3) for value in part] for part in (measured.mean, measured.std))
    print(f"load=dict(type='ibot_mm.LoadImage', {words}, to_float32=True)")
    print(f'backbone=dict(in_channels={len(mean)})')
    print(f'data_preprocessor=dict(mean={mean}, std={std}, to_rgb=False)')


if __name__ == '__main__':
    main()
