# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Copy detection on Copydays: originals found by attacked copies, as published for iBOT and DINO.

Layout::

    ROOT/original/NAME.jpg                                       157 images
    ROOT/strong/NAME.jpg                                         229
    ROOT/jpegqual/{3,5,8,10,15,20,30,50,75}/NAME.jpg             157 each
    ROOT/crops/{10,15,20,30,40,50,60,70,80}/NAME.jpg             157 each

It comes from https://lear.inrialpes.fr/~jegou/data.php. A strong copy is of the original with the
same first four letters, another copy of the original at its place.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ibot_mm.functional.copy_detection import TOPK, find_copies, score_copies
from ibot_mm.functional.pca_whitening import fit_pca_whitening
from ibot_mm.functional.pooling import cls_generalized_mean

from ..features import FeatureExtractor
from ..protocols.measurement import Measurement, Options
from ..splits import DataError
from ..views import square_image
from .image_features import find_folder_images, image_features, open_image
from .network import TaskNetwork
from .settings import settings_of

BLOCKS = (
    *('original', 'strong'),
    *(f'jpegqual/{quality}' for quality in (3, 5, 8, 10, 15, 20, 30, 50, 75)),
    *(f'crops/{share}' for share in (10, 15, 20, 30, 40, 50, 60, 70, 80)),
)
PREFIX = 4  # letters that a strong copy and its original have in common
LAYOUT = """
It needs the layout of Copydays (lear.inrialpes.fr/~jegou/data.php):
    ROOT/original/NAME.jpg
    ROOT/strong/NAME.jpg
    ROOT/jpegqual/{3,5,8,10,15,20,30,50,75}/NAME.jpg
    ROOT/crops/{10,15,20,30,40,50,60,70,80}/NAME.jpg
or the blocks that are there by name: --task-options copydays.blocks=strong"""


@dataclass(frozen=True)
class CopydaysSettings:
    """Settings of copy detection; the defaults are the published ones.

    Args:
        image_size: Side of the squares that images are resized to, in pixels.
        power: Of the generalized mean of the patches.
        blocks: Of queries.
        distractors: Folder of images that are added to the database; the paper of DINO takes
            10,000 of YFCC100M. '' for none.
        whitening: Folder of images whose features whiten all others; DINO takes 20,000 of
            YFCC100M. '' for none.
        topk: Neighbors among which copies are looked for.
    """

    image_size: int = 224
    power: float = 4.0
    blocks: tuple[str, ...] = BLOCKS
    distractors: str = ''
    whitening: str = ''
    topk: int = TOPK


def copydays(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Find the originals of copies by [CLS] beside the generalized mean of the patches.

    Returns:
        For each block of queries ``map`` in percent.

    Raises:
        DataError: See :func:`check_copydays`.
    """
    settings = settings_of(options, 'copydays', CopydaysSettings)
    blocks = _read_blocks(root, settings)
    originals = _extract(network, _images(root, 'original'), options, settings, 'original')
    database = [originals]
    if settings.distractors:
        paths = find_folder_images(settings.distractors)
        database.append(_extract(network, paths, options, settings, 'distractors'))
    whitening = None
    if settings.whitening:
        paths = find_folder_images(settings.whitening)
        features = _extract(network, paths, options, settings, 'whitening')
        whitening = fit_pca_whitening(features)
    sizes = dict(images=len(originals), distractors=sum(map(len, database[1:])))
    found = []
    for name, (paths, sources) in blocks.items():
        queries = _extract(network, paths, options, settings, name.replace('/', '_'))
        _, neighbors = find_copies(database, queries.to(options.device), settings.topk, whitening)
        precision = float(score_copies(neighbors, sources).mean())
        setting = dict(block=name, queries=len(queries), **sizes)
        if whitening is not None:
            setting['whitening'] = 'whitened'
        found.append(Measurement(setting, dict(map=100 * precision)))
    return found


def check_copydays(root: Path, options: Options) -> None:
    """Refuse a folder without originals or queries, or with copies of unknown originals.

    Raises:
        DataError: If it is.
        ValueError: If an option is out of range.
    """
    settings = settings_of(options, 'copydays', CopydaysSettings)
    if unknown := [name for name in settings.blocks if name not in BLOCKS]:
        raise ValueError(f'copydays has no block {unknown[0]!r}: choose from {", ".join(BLOCKS)}')
    if settings.image_size < 1 or settings.topk < 1 or not settings.power > 0:
        raise ValueError(
            'copydays needs image_size and topk of at least 1 and a power above 0, got '
            f'{settings.image_size}, {settings.topk} and {settings.power}'
        )
    _read_blocks(root, settings)
    for folder in (settings.distractors, settings.whitening):
        if folder:
            find_folder_images(folder)


def _read_blocks(
    root: Path, settings: CopydaysSettings
) -> dict[str, tuple[list[Path], list[Tensor]]]:
    """Return the images of each block of queries, and the rows of their originals."""
    originals = _images(root, 'original')
    blocks = {}
    for name in settings.blocks:
        paths = _images(root, name)
        if name == 'strong':
            sources = [_same_prefix(path, originals) for path in paths]
        elif len(paths) == len(originals):
            sources = list(torch.arange(len(paths)).split(1))
        else:
            raise DataError(
                f'{root / name} has {len(paths)} images and there are {len(originals)} originals: '
                f'a copy of each is needed.{LAYOUT}'
            )
        blocks[name] = paths, sources
    return blocks


def _images(root: Path, block: str) -> list[Path]:
    paths = sorted((root / block).glob('*.jpg'))
    if not paths:
        raise DataError(f'{root} has no images {block}/*.jpg.{LAYOUT}')
    return paths


def _same_prefix(path: Path, originals: list[Path]) -> Tensor:
    rows = [i for i, known in enumerate(originals) if known.name[:PREFIX] == path.name[:PREFIX]]
    if not rows:
        raise DataError(
            f'{path} is a copy of no original: none begins with {path.name[:PREFIX]!r}.{LAYOUT}'
        )
    return torch.tensor(rows)


def _extract(
    network: TaskNetwork, paths: list[Path], options: Options, settings: CopydaysSettings, name: str
) -> Tensor:
    extractor = FeatureExtractor(network.backbone)
    return image_features(
        network,
        paths,
        lambda path: square_image(open_image(path), settings.image_size),
        lambda images: cls_generalized_mean(extractor.tokens(images)[-1], settings.power),
        options,
        f'copydays_{name}',
        dict(square=settings.image_size, power=settings.power),
    )
