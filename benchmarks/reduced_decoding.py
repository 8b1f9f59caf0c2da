# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What decoding large JPEGs at a reduced size changes: the pixels of crops, and the time.

``python -m benchmarks.reduced_decoding`` cuts the same crops, of the published shares and sizes,
from each photograph decoded whole and decoded at 1/2, 1/4 or 1/8, as
``LoadImage(min_decoded_size=...)`` would, and compares the resized crops. Without ``--images`` it
makes photographs of 12 megapixels, mosaics of real ones, whose detail is that of small pictures:
finer than a camera's, so that the differences are rather too large.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks import measurement
from benchmarks.loading import use_one_core
from ibot_mm.datasets.find_images import find_images
from ibot_mm.datasets.transforms import MultiCrop
from ibot_mm.datasets.transforms.decode_image import decode_image, reduction_of
from ibot_mm.datasets.transforms.multi_crop import resized_crop, sample_crop_box

NAMES = ('astronaut', 'chelsea', 'coffee', 'rocket')
KINDS = {'global': (224, (0.25, 1.0)), 'local': (96, (0.05, 0.25))}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=Path, help='folder of JPEG files of your own')
    parser.add_argument('--number', type=int, default=8, help='photographs; default: 8')
    parser.add_argument('--crops', type=int, default=8, help='of each kind and image; default: 8')
    parser.add_argument('--min-size', type=int, help="default: MultiCrop's min_image_size, 518")
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    return parser.parse_args(arguments)


def write_large(folder: Path, number: int, width: int = 4000, height: int = 3000) -> None:
    """Write mosaics of photographs, mirrored and moved, as JPEG files of 12 megapixels."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    photographs = [getattr(skimage.data, name)() for name in NAMES]
    for index in range(number):
        rows = []
        for _ in range(-(-height // 300)):
            picked = [photographs[i] for i in rng.integers(len(photographs), size=-(-width // 400))]
            row = [picture[:300, :400][:, :: int(rng.choice([-1, 1]))] for picture in picked]
            rows.append(np.concatenate(row, axis=1))
        mosaic = np.concatenate(rows)[:height, :width]
        Image.fromarray(mosaic).save(folder / f'{index:04d}.jpg', quality=95)


def compare(content: bytes, min_size: int, num_crops: int, seed: int) -> dict[str, float]:
    """Cut the same crops from one image decoded in both ways."""
    reduction = reduction_of(content, min_size)
    start = time.process_time()
    whole = decode_image(content)
    decoded = time.process_time()
    small = decode_image(content, reduction=reduction)
    end = time.process_time()
    figures = dict(
        reduction=float(reduction), whole_ms=1e3 * (decoded - start), small_ms=1e3 * (end - decoded)
    )
    np.random.seed(seed)
    for kind, (size, scale) in KINDS.items():
        differences = []
        for _ in range(num_crops):
            box = sample_crop_box(*whole.shape[:2], scale, (3 / 4, 4 / 3))
            top, left, height, width = (round(number / reduction) for number in box)
            height = min(height, small.shape[0] - top)
            width = min(width, small.shape[1] - left)
            crops = [
                resized_crop(image, part, size, False).astype(float)
                for image, part in ((whole, box), (small, (top, left, height, width)))
            ]
            differences.append(np.abs(crops[0] - crops[1]))
        values = np.concatenate([difference.ravel() for difference in differences])
        figures[f'{kind}_mean'] = float(values.mean())
        figures[f'{kind}_p99'] = float(np.percentile(values, 99))
        figures[f'{kind}_psnr'] = float(10 * np.log10(255**2 / max((values**2).mean(), 1e-9)))
    return figures


def measure(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Compare the images of a folder; means over those that are reduced."""
    min_size = args.min_size or MultiCrop().min_image_size
    paths = [folder / name for name in find_images(str(folder)).images][: args.number]
    each = [compare(p.read_bytes(), min_size, args.crops, i) for i, p in enumerate(paths)]
    reduced = [figures for figures in each if figures['reduction'] > 1]
    if not reduced:
        raise SystemExit(
            f'reduced_decoding: none of {len(each)} images of {folder} is a JPEG of at least '
            f'{2 * min_size} pixels on its shorter side, which could be reduced'
        )
    means = {key: float(np.mean([figures[key] for figures in reduced])) for key in reduced[0]}
    return dict(images=float(len(each)), reduced=float(len(reduced)), **means)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    args = parse_args(arguments)
    use_one_core(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.images is None:
            write_large(Path(folder), args.number)
        figures = measure(args.images or Path(folder), args)
    table = Table('', 'mean difference', '99th percentile', 'PSNR (dB)', title='Crops, 0 to 255')
    for kind in KINDS:
        row = (figures[f'{kind}_{name}'] for name in ('mean', 'p99', 'psnr'))
        table.add_row(f'{kind} crops', *(f'{value:.2f}' for value in row))
    console = Console()
    console.print(table)
    whole, small = figures['whole_ms'], figures['small_ms']
    console.print(
        f'{figures["reduced"]:.0f} of {figures["images"]:.0f} images were reduced, by '
        f'{figures["reduction"]:.1f} on average. Decoding takes {small:.1f} ms instead of '
        f'{whole:.1f} ms: {whole / small:.2f} times as fast. OpenCV {cv2.__version__}.'
    )
    if args.json:
        content = dict(figures=figures, machine=measurement.machine())
        Path(args.json).write_text(json.dumps(content, indent=2) + '\n')


if __name__ == '__main__':
    main()
