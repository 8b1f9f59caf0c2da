# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Peak memory of a frozen evaluation for some images and for eight times as many.

``python -m benchmarks.evaluation_memory`` evaluates a small ViT with features of 1536 channels on
images of noise by k-NN, linear probing and logistic regression, with the untrained network and raw
pixels beside it, each number of images in a process of its own. What counts is memory of the
process alone: pages of the memory maps are the system's, which drops them where it needs room.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks import measurement
from ibot_mm.evaluation import Options
from ibot_mm.evaluation.protocols import knn as knn_protocol
from ibot_mm.evaluation_request import Request
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.functional import knn, logistic_regression
from ibot_mm.models import MaskedVisionTransformer

CLASSES, SIZE, HELD_OUT = 10, 16, 4  # one held-out image for four to learn from
ROWS = 64  # computed with at once, instead of up to 65,536, which all these images would fit into
VIT: dict[str, Any] = dict(
    arch=dict(embed_dims=384, num_layers=4, num_heads=6, feedforward_channels=384),
    img_size=SIZE,
    patch_size=8,
)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--images', type=int, default=2000, help='to learn from; default: 2000')
    parser.add_argument('--factor', type=int, default=8, help='default: 8 times as many')
    parser.add_argument('--json', metavar='FILE', help='also write the figures here')
    parser.add_argument('--measure', action='store_true', help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


class PeakMemory(threading.Thread):
    """Watches the memory of this process that no file backs, in MiB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.start_value = self.peak = self.now()
        self.stopped = threading.Event()

    @staticmethod
    def now() -> float:
        """Of the kernel's account."""
        for line in Path('/proc/self/status').read_text().splitlines():
            if line.startswith('RssAnon:'):
                return int(line.split()[1]) / 1024
        raise RuntimeError('/proc/self/status does not tell RssAnon: this needs Linux')

    def run(self) -> None:
        """Look a hundred times a second."""
        while not self.stopped.wait(0.01):
            self.peak = max(self.peak, self.now())


def make_images(root: Path, number: int) -> None:
    """Noise around a color for each class."""
    rng = np.random.default_rng(0)
    for split, images in (('train', number), ('val', number // HELD_OUT)):
        for label in range(CLASSES):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for index in range(images // CLASSES):
                pixels = rng.integers(0, 200, (SIZE, SIZE, 3)) + 5 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{index}.png')


def measure(number: int) -> dict[str, float]:
    """Evaluate, and return the peak above what the process held after its imports, in MiB."""
    warnings.filterwarnings('ignore')
    torch.set_num_threads(1)
    knn.BANK_CHUNK = knn_protocol.CHUNK = logistic_regression.CHUNK = ROWS
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_images(root / 'images', number)
        vit = MaskedVisionTransformer(**VIT)
        state = {f'teacher.backbone.{name}': t for name, t in vit.state_dict().items()}
        torch.save(dict(state_dict=state), root / 'vit.pth')
        request = Request(
            str(root / 'vit.pth'),
            data=str(root / 'images'),
            out=str(root / 'out'),
            baselines=True,
            image_size=SIZE,
            num_workers=0,
            assume=dict(num_heads=VIT['arch']['num_heads']),
        )
        watch = PeakMemory()
        watch.start()
        evaluate_frozen(request, Options(epochs=2))
        watch.stopped.set()
        watch.join()
        stored = sum(path.stat().st_size for path in root.glob('out/features/*/features.npy'))
    return dict(peak=watch.peak - watch.start_value, stored=stored / 2**20)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any] | None:
    """Measure and report."""
    args = parse_args(arguments)
    if args.measure:
        print(json.dumps(measure(args.images)))
        return None
    figures = {}
    for number in (args.images, args.factor * args.images):
        command = [sys.executable, '-m', __spec__.name, '--measure', '--images', str(number)]
        output = subprocess.check_output(command, text=True)
        figures[number] = json.loads(output.splitlines()[-1])
        print(
            f'{number} images: peak {figures[number]["peak"]:.0f} MiB, features on the disk '
            f'{figures[number]["stored"]:.0f} MiB'
        )
    result = dict(unit='MiB', figures=figures, settings=vars(args), machine=measurement.machine())
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=2) + '\n')
    return result


if __name__ == '__main__':
    main()
