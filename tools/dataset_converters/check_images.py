# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Read every image of a folder, report what is wrong, and write a clean list to train on.

    python tools/dataset_converters/check_images.py data/images --ann-file data/clean.txt

The list is for ImageFolder(data_root='data/images', ann_file=...): without images that are broken,
unsupported or tiny, and with one of each set of equal files. Exit status 1 if any image cannot be
read.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from mmengine.fileio import dump
from rich.progress import track

from ibot_mm.datasets.check_images import UNUSABLE, ImageReport, check_folder
from ibot_mm.datasets.find_images import EXTENSIONS
from ibot_mm.datasets.transforms.pixel_range import PixelRange


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('folder', help='folder of images, with or without sub-folders')
    parser.add_argument('--ann-file', help='file for the clean list')
    parser.add_argument(
        '--with-label', action='store_true', help='write the number of the class folder, too'
    )
    parser.add_argument('--out', help='file for the whole report, .json or .yaml')
    parser.add_argument(
        '--min-size', type=int, default=32, help='shortest side in pixels (default: %(default)s)'
    )
    parser.add_argument(
        '--in-range', type=float, nargs=2, metavar=('LOW', 'HIGH'), help="as LoadImage's in_range"
    )
    parser.add_argument(
        '--channels', type=int, nargs='+', help="as LoadImage's channels: their number, or a list"
    )
    parser.add_argument(
        '--extensions', nargs='+', default=EXTENSIONS, help='endings of names, such as .npy'
    )
    parser.add_argument(
        '--num-workers', type=int, default=os.cpu_count(), help='processes (default: %(default)s)'
    )
    parser.add_argument(
        '--show', type=int, default=10, help='images named of each kind (default: %(default)s)'
    )
    return parser.parse_args()


def show_progress(reports: Iterable[ImageReport], total: int) -> Iterable[ImageReport]:
    return track(reports, 'Reading', total)


def main() -> None:
    args = parse_args()
    if not Path(args.folder).is_dir():
        sys.exit(f'check_images: there is no folder {args.folder}')
    in_range = None if args.in_range is None else tuple(args.in_range)
    channels = args.channels[0] if args.channels and len(args.channels) == 1 else args.channels
    report = check_folder(
        args.folder,
        args.min_size,
        PixelRange(in_range),
        args.num_workers,
        show_progress,
        channels,
        args.extensions,
    )
    print(f'{args.folder}: {report.found}')
    for kind, count in report.counts.most_common():
        print(f'{kind}: {count}')
        examples = [image for image in report.images if kind in image.kinds][: args.show]
        for image in examples if kind in UNUSABLE else []:
            print(f'  {image.path}{": " if image.reason else ""}{image.reason}')
    print(f'clean: {len(report.clean)} of {len(report.images)}')
    if args.ann_file:
        labels = {folder: number for number, folder in enumerate(report.found.folders)}
        lines = (
            f'{path} {labels[path.split("/")[0]]}' if args.with_label else path
            for path in report.clean
            if not args.with_label or '/' in path
        )
        Path(args.ann_file).write_text(''.join(f'{line}\n' for line in lines), encoding='utf-8')
    if args.out:
        dump(report.to_dict(), args.out)
    sys.exit(1 if {'broken', 'unsupported'} & set(report.counts) else 0)


if __name__ == '__main__':
    main()
