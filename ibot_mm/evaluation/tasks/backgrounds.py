# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The backgrounds challenge: does any background hide a foreground? (arXiv 2006.09994)

Layout of the release of ImageNet-9, see ``imagenet_9``::

    ROOT/original/val/00_dog/NAME.JPEG       foregrounds
    ROOT/fg_mask/val/00_dog/NAME.npy         where they are, (H, W), 1 or True
    ROOT/only_bg_t/val/00_dog/*.JPEG         backgrounds

Each foreground is pasted on every background. Pixels of both are compared as they are: images and
masks have the size of the classifier's view.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from torch import Tensor

from ibot_mm.functional.robustness import is_vulnerable, predict_groups

from ..extraction import track
from ..protocols.measurement import Measurement, Options
from ..splits import DataError, ImagePaths, labels_of
from ..views import center_view
from .class_folders import (
    check_class_folders,
    class_folder,
    classifier_of,
    gather,
    labeled_batches,
)
from .imagenet_9 import groups_of_classes
from .network import TaskNetwork, preparation

FOREGROUNDS, MASKS, BACKGROUNDS = 'original', 'fg_mask', 'only_bg_t'
LAYOUT = """
It needs the release of github.com/MadryLab/backgrounds_challenge, unpacked:
    ROOT/original/val/00_dog/NAME.JPEG
    ROOT/fg_mask/val/00_dog/NAME.npy
    ROOT/only_bg_t/val/00_dog/*.JPEG"""


def backgrounds(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Look for a background that makes the classifier miss a foreground, for each foreground.

    Returns:
        ``vulnerable``, the share of foregrounds with such a background, and ``accuracy``, the
        others; in percent.

    Raises:
        DataError: If the data or its classes do not serve.
    """
    classifier, prepare = classifier_of(network), preparation(network)
    names = check_class_folders(root / BACKGROUNDS / 'val', LAYOUT)
    groups = groups_of_classes(root, names, classifier.classes)
    view = center_view(classifier.image_size)
    dataset = class_folder(root / BACKGROUNDS / 'val', view, LAYOUT)
    batches = labeled_batches(network, dataset, options, BACKGROUNDS, shared=False)
    # Each is pasted thousands of times: they stay in memory, as uint8.
    pasted_on = [batch.pixels for batch in batches]

    @torch.no_grad()
    def predict(pixels: Tensor) -> Tensor:
        return predict_groups(classifier.logits(prepare(pixels)), groups)

    def measure(path: Path) -> bool:
        pixels, mask, group = (part.to(options.device) for part in foregrounds(path))
        return is_vulnerable(predict, pixels, mask, int(group), pasted_on)

    foregrounds = _Foregrounds(root, view)
    masks = _masks(root)
    own = masks[get_rank() :: get_world_size()]
    parts = track((([row], path) for row, path in enumerate(own)), len(own), 'foregrounds')
    found = gather(measure(path) for _, path in parts)
    share = 100 * sum(found) / len(found)
    sizes = dict(images=len(found), backgrounds=len(dataset))
    return [Measurement(sizes, dict(accuracy=100 - share, vulnerable=share))]


def _masks(root: Path) -> list[Path]:
    return sorted((root / MASKS / 'val').glob('*/*.npy'))


class _Foregrounds:
    """Reads the image, mask and group that a mask's path names."""

    def __init__(self, root: Path, view: Sequence[Mapping[str, Any]]) -> None:
        self.dataset = class_folder(root / FOREGROUNDS / 'val', view, LAYOUT)
        self.labels, paths = labels_of(self.dataset), ImagePaths(self.dataset)
        self.rows = {(Path(p).parent.name, Path(p).stem): row for row, p in enumerate(paths)}

    def __call__(self, path: Path) -> tuple[Tensor, Tensor, Tensor]:
        row = self.rows[path.parent.name, path.stem]
        mask, pixels = _read_mask(path), self.dataset[row]['inputs']
        if mask.shape != pixels.shape[-2:]:
            raise DataError(
                f'the mask {path} has {tuple(mask.shape)} pixels, and the classifier sees its '
                f'image as {tuple(pixels.shape[-2:])}: both must be of one size'
            )
        return pixels, mask, self.labels[row]


def _read_mask(path: Path) -> Tensor:
    try:
        mask = np.load(path, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise DataError(f'{path} is not an array of numpy: unpack the data again') from error
    if mask.ndim != 2:
        raise DataError(f'{path} is not a mask (H, W), but of shape {mask.shape}')
    return torch.from_numpy(mask.astype(bool))


def check_backgrounds(root: Path, options: Options) -> None:
    """Refuse a folder in which foregrounds, masks or backgrounds are missing.

    Raises:
        DataError: If there are such.
    """
    found = {
        name: check_class_folders(root / name / 'val', LAYOUT)
        for name in (FOREGROUNDS, MASKS, BACKGROUNDS)
    }
    if other := [name for name, groups in found.items() if groups != found[FOREGROUNDS]]:
        raise DataError(
            f'the groups of {other[0]} are {", ".join(found[other[0]])}, those of {FOREGROUNDS} '
            f'{", ".join(found[FOREGROUNDS])}: unpack the data again.{LAYOUT}'
        )
    masks = _masks(root)
    images = {(p.parent.name, p.stem) for p in (root / FOREGROUNDS / 'val').glob('*/*')}
    if not masks:
        raise DataError(f'there are no masks *.npy in {root / MASKS / "val"}.{LAYOUT}')
    if alone := [path for path in masks if (path.parent.name, path.stem) not in images]:
        raise DataError(
            f'{len(alone)} of {len(masks)} masks have no image in {root / FOREGROUNDS / "val"}, '
            f'first {alone[0]}.{LAYOUT}'
        )


def check_backgrounds_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse a classifier whose classes have no known groups, and masks of another size.

    Raises:
        DataError: If there are such.
    """
    groups_of_classes(root, check_class_folders(root / MASKS / 'val', LAYOUT), classes)
    first = _masks(root)[0]
    if (shape := tuple(_read_mask(first).shape)) != (image_size, image_size):
        raise DataError(
            f'the mask {first} has {shape} pixels, and the classifier sees {image_size} x '
            f'{image_size}: both must be of one size (--image-size)'
        )
