# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Occlusion: patches taken away at random, or by where a network looks (paper, section 4.3.3).

Layout, of ImageNet or of any data with the classifier's classes::

    ROOT/val/CLASS/*.JPEG

Patches are set to 0 after normalization, which is the mean color. ``random`` takes a share of the
patches away; ``salient`` the fewest that hold a share of [CLS] attention; ``non_salient`` all
others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ibot_mm.functional.attention_mass import most_attended
from ibot_mm.functional.occlusion import (
    PUBLISHED_DROPS,
    PUBLISHED_SHARES,
    drop_patches,
    first_patches,
    sample_orders,
)

from ..features import FeatureExtractor
from ..protocols.measurement import Measurement, Options
from ..splits import DataError
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
from .network import TaskNetwork, grid_of, preparation
from .settings import settings_of

KINDS = ('random', 'salient', 'non_salient')
LAYOUT = """
It needs images with the classes of the classifier:
    ROOT/val/CLASS/*.JPEG"""


@dataclass(frozen=True)
class OcclusionSettings:
    """Settings of occlusion.

    Args:
        kinds: Of ``KINDS``.
        drops: Shares of the patches that are taken away at random.
        shares: Of the attention, for ``salient`` and ``non_salient``.
        grid: Rows and columns of patches taken away at random; 0 is the network's own patches.
        head: Of the attention, from 0; -1 is the mean over heads. Published is 1, of DINO.
        seed: Of the random patches.
        as_published: Whether a batch has one sample, of numpy's old generator; published is batches
            of 1024 with seed 1.
    """

    kinds: tuple[str, ...] = KINDS
    drops: tuple[float, ...] = PUBLISHED_DROPS
    shares: tuple[float, ...] = PUBLISHED_SHARES
    grid: int = 0
    head: int = -1
    seed: int = 0
    as_published: bool = False


def occlusion(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Classify images of which patches are taken away.

    Attention is that of ``network.salience``, and of the network itself where there is none.

    Returns:
        ``top1`` in percent for each kind and share; ``lost`` in the setting is the percentage of
        patches that were taken away.

    Raises:
        DataError: If the data or its classes do not serve.
        ValueError: If a grid does not divide the image, or there is no attention or no such head.
    """
    settings = settings_of(options, 'occlusion', OcclusionSettings)
    classifier = classifier_of(network)
    view = evaluation_view(classifier.image_size, interpolation='bilinear')
    dataset = class_folder(root / 'val', view, LAYOUT)
    columns = columns_of(dataset.metainfo['classes'], classifier.classes, root / 'val')

    def measure(batch: LabeledBatch) -> dict[tuple[str, float], Tensor]:
        found = {}
        for key, dropped, grid in _dropped(network, batch, settings):
            images = drop_patches(batch.images, dropped, grid)
            right = classifier.logits(images).argmax(dim=1).cpu() == columns[batch.labels]
            lost = dropped.double().mean(dim=1).cpu()
            found[key] = torch.stack([right.double(), lost]).sum(dim=1)
        return found

    found = gather(map(measure, labeled_batches(network, dataset, options, 'occlusion')))
    looking = dict(head=settings.head) if settings.head >= 0 else {}
    measured = []
    for kind, share in sorted(found[0], key=lambda key: KINDS.index(key[0])):
        total = torch.stack([part[kind, share] for part in found]).sum(dim=0)
        right, lost = (100 * total / len(dataset)).tolist()
        setting = dict(
            kind=f'{kind} {share:g}', images=len(dataset), lost=round(lost, 2), **looking
        )
        measured.append(Measurement(setting, dict(top1=right)))
    return measured


def _dropped(
    network: TaskNetwork, batch: LabeledBatch, settings: OcclusionSettings
) -> Iterator[tuple[tuple[str, float], Tensor, tuple[int, int]]]:
    """Yield kind and share, which patches are taken away (B, N), and their grid."""
    if 'random' in settings.kinds:
        grid = (settings.grid,) * 2 if settings.grid else _own_grid(network, batch.images)
        number = grid[0] * grid[1]
        numbers = [int(row) for row in batch.rows]
        orders = sample_orders(number, numbers, settings.seed, settings.as_published)
        for share in settings.drops:
            dropped = first_patches(orders, int(share * number + 1e-9))
            yield ('random', share), dropped, grid
    if {'salient', 'non_salient'} & set(settings.kinds):
        attention = _attention(network, batch, settings.head)
        for share in settings.shares:
            salient = most_attended(attention.flatten(1), share)
            for kind, dropped in (('salient', salient), ('non_salient', ~salient)):
                if kind in settings.kinds:
                    yield (kind, share), dropped, attention.shape[1:]  # type: ignore[misc]


def _own_grid(network: TaskNetwork, images: Tensor) -> tuple[int, int]:
    if not hasattr(network.backbone, 'last_blocks'):
        raise ValueError(
            f'the patches of {type(network.backbone).__name__} are not known: set occlusion.grid'
        )
    tokens = FeatureExtractor(network.backbone).tokens(images[:1])[-1]
    return grid_of(tokens.shape[1] - 1, *images.shape[-2:])


def _attention(network: TaskNetwork, batch: LabeledBatch, head: int) -> Tensor:
    """Attention of [CLS], (B, h, w)."""
    looking = network.salience or network
    with torch.no_grad():
        attention = looking.cls_attention(preparation(looking)(batch.pixels))
    if head >= attention.shape[1]:
        raise ValueError(
            f'occlusion.head is {head}, and the attention has {attention.shape[1]} heads, from 0'
        )
    return attention.mean(dim=1) if head < 0 else attention[:, head]


def check_occlusion(root: Path, options: Options) -> None:
    """Refuse a folder without images of validation, and options out of range.

    Raises:
        DataError: If the data does not serve.
        ValueError: If an option does not.
    """
    settings = settings_of(options, 'occlusion', OcclusionSettings)
    if not settings.kinds or set(settings.kinds) - set(KINDS):
        raise ValueError(f'occlusion.kinds must be of {", ".join(KINDS)}, got {settings.kinds}')
    if not all(0 <= share <= 1 for share in settings.drops):
        raise ValueError(f'occlusion.drops must be from 0 to 1, got {settings.drops}')
    if not all(0 < share <= 1 for share in settings.shares):
        raise ValueError(f'occlusion.shares must be above 0 and up to 1, got {settings.shares}')
    if settings.grid < 0 or settings.head < -1 or settings.seed < 0:
        raise ValueError(
            'occlusion.grid and occlusion.seed must be at least 0 and occlusion.head at least -1, '
            f'got {settings.grid}, {settings.seed} and {settings.head}'
        )
    check_class_folders(root / 'val', LAYOUT)


def check_occlusion_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse folders that are not of the classifier's classes, and a grid that does not fit.

    Raises:
        DataError: If there are such.
    """
    settings = settings_of(options, 'occlusion', OcclusionSettings)
    columns_of(check_class_folders(root / 'val', LAYOUT), classes, root / 'val')
    if settings.grid and image_size % settings.grid:
        raise DataError(
            f'occlusion.grid={settings.grid} does not divide the {image_size} pixels that the '
            'classifier sees: choose a divisor, or 0 for the patches of the network'
        )
