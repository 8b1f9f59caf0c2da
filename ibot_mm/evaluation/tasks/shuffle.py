# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Shuffling: images cut into patches, put in another order (paper, section 4.3.3).

Layout, of ImageNet or of any data with the classifier's classes::

    ROOT/val/CLASS/*.JPEG
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log

from ibot_mm.functional.occlusion import PUBLISHED_GRIDS, sample_orders, shuffle_patches

from ..protocols.measurement import Measurement, Options
from ..views import evaluation_view
from .class_folders import (
    LabeledBatch,
    check_class_folders,
    class_folder,
    classifier_of,
    columns_of,
    gather,
    labeled_batches,
)
from .network import TaskNetwork
from .settings import settings_of

LAYOUT = """
It needs images with the classes of the classifier:
    ROOT/val/CLASS/*.JPEG"""


@dataclass(frozen=True)
class ShuffleSettings:
    """Settings of shuffling.

    Args:
        grids: Such as '4x8', rows before columns. Empty: those published that divide the image.
        seed: Of the orders.
        as_published: Whether a batch has one order, of numpy's old generator; published is batches
            of 1024 with seed 1.
    """

    grids: tuple[str, ...] = ()
    seed: int = 0
    as_published: bool = False


def shuffle(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Classify images whose patches are shuffled, for several grids.

    Returns:
        ``top1`` in percent for each grid; '1x1' is the image itself.

    Raises:
        DataError: If the data or its classes do not serve.
        ValueError: If a grid does not divide the image.
    """
    settings = settings_of(options, 'shuffle', ShuffleSettings)
    classifier = classifier_of(network)
    grids = [(1, 1), *chosen_grids(settings, classifier.image_size)]
    view = evaluation_view(classifier.image_size, interpolation='bilinear')
    dataset = class_folder(root / 'val', view, LAYOUT)
    places = columns_of(dataset.metainfo['classes'], classifier.classes, root / 'val')

    def measure(batch: LabeledBatch) -> list[int]:
        numbers, targets, hits = [int(row) for row in batch.rows], places[batch.labels], []
        for grid in grids:
            number = grid[0] * grid[1]
            orders = sample_orders(number, numbers, settings.seed, settings.as_published)
            logits = classifier.logits(shuffle_patches(batch.images, grid, orders))
            hits.append(int((logits.argmax(dim=1).cpu() == targets).sum()))
        return hits

    found = gather(map(measure, labeled_batches(network, dataset, options, 'shuffle')))
    return [
        Measurement(
            dict(grid=f'{rows}x{columns}', images=len(dataset)),
            dict(top1=100 * sum(hits) / len(dataset)),
        )
        for (rows, columns), hits in zip(grids, zip(*found))
    ]


def chosen_grids(settings: ShuffleSettings, image_size: int) -> list[tuple[int, int]]:
    """Read the grids of the settings, or choose those published that divide the image.

    Args:
        settings: With ``grids``.
        image_size: Side of the image in pixels.

    Raises:
        ValueError: If one is not of the form '4x8', or does not divide the image.
    """
    if not settings.grids:
        fitting = [g for g in PUBLISHED_GRIDS if not image_size % g[0] and not image_size % g[1]]
        if left_out := [f'{r}x{c}' for r, c in PUBLISHED_GRIDS if (r, c) not in fitting]:
            print_log(
                f'shuffle: {", ".join(left_out)} do not divide {image_size} pixels and are left '
                'out',
                logger='current',
            )
        return fitting
    grids = [_read(text) for text in settings.grids]
    if wrong := [g for g in grids if image_size % g[0] or image_size % g[1]]:
        raise ValueError(
            f'shuffle.grids: {wrong[0][0]}x{wrong[0][1]} does not divide the {image_size} pixels '
            'that the classifier sees: choose divisors'
        )
    return grids


def _read(text: str) -> tuple[int, int]:
    rows, _, columns = text.partition('x')
    if not (rows.isdigit() and columns.isdigit() and int(rows) * int(columns)):
        raise ValueError(f"shuffle.grids must be such as '4x8', rows before columns, got {text!r}")
    return int(rows), int(columns)


def check_shuffle(root: Path, options: Options) -> None:
    """Refuse a folder without images of validation, and options out of range.

    Raises:
        DataError: If the data does not serve.
        ValueError: If an option does not.
    """
    settings = settings_of(options, 'shuffle', ShuffleSettings)
    for text in settings.grids:
        _read(text)
    if settings.seed < 0:
        raise ValueError(f'shuffle.seed must be at least 0, got {settings.seed}')
    check_class_folders(root / 'val', LAYOUT)


def check_shuffle_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse folders that are not of the classifier's classes, and grids that do not fit.

    Raises:
        DataError: If the folders do not.
        ValueError: If the grids do not.
    """
    columns_of(check_class_folders(root / 'val', LAYOUT), classes, root / 'val')
    settings = settings_of(options, 'shuffle', ShuffleSettings)
    if settings.grids:
        chosen_grids(settings, image_size)
