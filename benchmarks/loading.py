# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data loading on one CPU core, here and in the published code.

``python -m benchmarks.loading`` decodes, crops, augments and collates photographs of 500 x 375
pixels: two crops of 224 and ten of 96 pixels from each. What counts is processor time.
"""

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image
from torch.utils.data import default_collate

from benchmarks import measurement
from benchmarks.published_loader import published_dataset
from ibot_mm.datasets.collate import stack_samples
from ibot_mm.registry import DATASETS, MODELS

CONFIGS = Path(__file__).parents[1] / 'configs/_base_'
WIDTH, HEIGHT = 500, 375
WORKER, WHOLE = 'workers', 'workers, preprocessor'
WORKER_APPLIES, WHOLE_APPLIES = 'augmenting workers', 'augmenting workers, preprocessor'
MASKS = 'masks'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    parser.add_argument('--images', type=int, default=64, help='number of images; default: 64')
    parser.add_argument('--batch-size', type=int, default=16, help='default: 16')
    parser.set_defaults(threads=1)
    return parser.parse_args(arguments)


def use_one_core(threads: int) -> None:
    """Bind this process to one core."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    if hasattr(os, 'sched_setaffinity'):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def write_photographs(folder: Path, number: int) -> None:
    """Parts of real photographs as JPEG files, of the size and detail of ImageNet's."""
    names = ('astronaut', 'chelsea', 'coffee', 'rocket')
    photographs = [getattr(skimage.data, name)() for name in names]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for index in range(number):
        pixels = photographs[index % len(photographs)]
        missing = [max(0, HEIGHT - pixels.shape[0]), max(0, WIDTH - pixels.shape[1])]
        pixels = np.pad(pixels, [(0, missing[0]), (0, missing[1]), (0, 0)], mode='reflect')
        top = rng.integers(pixels.shape[0] - HEIGHT + 1)
        left = rng.integers(pixels.shape[1] - WIDTH + 1)
        part = Image.fromarray(pixels[top : top + HEIGHT, left : left + WIDTH])
        part.save(folder / f'{index:04d}.jpg', quality=95)


def our_dataset(images: Path, **augmentation: Any) -> Any:
    """Build the data set of the pre-training configs."""
    pipeline = Config.fromfile(CONFIGS / 'datasets/imagenet.py').train_pipeline
    pipeline.augment.update(augmentation)
    return DATASETS.build(
        dict(type='ibot_mm.ImageFolder', data_root=str(images), pipeline=pipeline)
    )


def load(dataset: Any, batch_size: int, *functions: Callable) -> None:
    """Load all images in batches, and send each batch through the functions."""
    for start in range(0, len(dataset), batch_size):
        batch = [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        for function in functions:
            batch = function(batch)


def draw_masks(transform: Callable, results: dict, number: int) -> None:
    """Only draw masks, as often as there are images."""
    for _ in range(number):
        transform(results)


def ready_for_masks(dataset: Any) -> tuple[Callable, dict]:
    """Return the transform that draws masks, and what those before it make of an image."""
    results = dataset.get_data_info(0)
    for transform in dataset.pipeline.transforms:
        if type(transform).__name__ == 'MaskGenerator':
            return transform, results
        results = transform(results)
    raise ValueError('The pipeline has no MaskGenerator')


def sides_of(images: Path, args: argparse.Namespace) -> dict[str, Callable[[], list[float]]]:
    """Everything to be measured, in milliseconds an image."""
    init_default_scope('mmpretrain')
    model = Config.fromfile(CONFIGS / 'models/ibot_vit.py').model
    preprocess = MODELS.build(model.data_preprocessor)
    drawing, applying = our_dataset(images), our_dataset(images, apply=True)
    size = args.batch_size
    work = {
        WORKER: partial(load, drawing, size, stack_samples),
        WHOLE: partial(load, drawing, size, stack_samples, preprocess),
        WORKER_APPLIES: partial(load, applying, size, stack_samples),
        WHOLE_APPLIES: partial(load, applying, size, stack_samples, preprocess),
        MASKS: partial(draw_masks, *ready_for_masks(drawing), args.images),
    }
    if args.reference:
        published = published_dataset(args.reference, images)
        work = {measurement.PUBLISHED: partial(load, published, size, default_collate), **work}

    def milliseconds(run: Callable[[], None]) -> list[float]:
        start = time.process_time()
        run()
        return [1000 * (time.process_time() - start) / args.images]

    return {name: partial(milliseconds, run) for name, run in work.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate images, measure, report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    use_one_core(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder)
        write_photographs(images / 'photographs', args.images)
        measured = measurement.alternate(sides_of(images, args), args.rounds)
    masks = measured.pop(MASKS)
    settings = dict(vars(args), opencv=cv2.__version__)
    settings['share_of_masks'] = statistics.median(masks) / statistics.median(measured[WORKER])
    measurement.report('Loading on one core', 'ms an image', measured, settings, args.json)
    print(f'Drawing masks takes {settings["share_of_masks"]:.1%} of the worker side.')


if __name__ == '__main__':
    main()
