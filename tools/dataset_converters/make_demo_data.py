# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Compose the demo data from images that come inside packages: nothing is downloaded.

Writes ImageNet-style folders, COCO detection and ADE20K-style segmentation below one folder::

    python tools/dataset_converters/make_demo_data.py --out data/demo
"""

import argparse
import os
import sys

from ibot_mm.datasets.demo import DemoSettings, make_demo_data


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    default = DemoSettings()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--out', required=True, help='folder to write')
    parser.add_argument('--seed', type=int, default=default.seed, help='default: %(default)s')
    parser.add_argument(
        '--train',
        type=int,
        default=default.num_train,
        help='number of classification images for training (default: %(default)s)',
    )
    parser.add_argument(
        '--val',
        type=int,
        default=default.num_val,
        help='number of classification images for validation (default: %(default)s)',
    )
    parser.add_argument(
        '--image-size',
        type=int,
        default=default.image_size,
        help='side of the classification images in pixels (default: %(default)s)',
    )
    parser.add_argument(
        '--num-workers',
        type=int,
        default=os.cpu_count() or 1,
        help='processes; default: one for each core',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace demo data that is there already'
    )
    return parser.parse_args()


def main() -> None:
    """Make the demo data."""
    args = parse_args()
    try:
        settings = DemoSettings(
            seed=args.seed, num_train=args.train, num_val=args.val, image_size=args.image_size
        )
        root = make_demo_data(args.out, settings, args.overwrite, args.num_workers)
    except (FileExistsError, ImportError, ValueError) as error:
        sys.exit(f'make_demo_data: {error}')
    print(f'demo data is in {root}')


if __name__ == '__main__':
    main()
