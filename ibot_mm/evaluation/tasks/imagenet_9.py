# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""ImageNet-9: foregrounds and backgrounds mixed, classified into 9 groups (arXiv 2006.09994).

Layout of the release, images of 224 pixels; a variant is a folder::

    ROOT/{original,mixed_same,mixed_rand,mixed_next,no_fg,only_bg_b,only_bg_t,only_fg}/val/
        00_dog/*.JPEG
        ...
        08_fish/*.JPEG
    ROOT/in_to_in9.json        optional, class number -> group number, -1 for none

The data is in the release of https://github.com/MadryLab/backgrounds_challenge. Without a file
ImageNet's 1000 classes are grouped as published; a classifier whose classes are named as the
folders are needs no groups.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ibot_mm.functional.robustness import imagenet9_groups

from ..protocols.measurement import Measurement, Options
from ..splits import DataError
from ..views import center_view
from .class_folders import (
    check_class_folders,
    class_folder,
    classifier_of,
    is_imagenet,
    percent,
    predict_folder,
)
from .network import TaskNetwork
from .settings import settings_of

VARIANTS = (
    *('original', 'mixed_same', 'mixed_rand', 'mixed_next', 'no_fg'),
    *('only_bg_b', 'only_bg_t', 'only_fg'),
)
NUM_GROUPS = 9
GROUPS_FILE = 'in_to_in9.json'
LAYOUT = """
It needs the release of github.com/MadryLab/backgrounds_challenge, unpacked:
    ROOT/{original,mixed_same,...}/val/{00_dog,...,08_fish}/*.JPEG"""


@dataclass(frozen=True)
class ImageNet9Settings:
    """Settings of ImageNet-9.

    Args:
        variants: Folders; all 8 are published.
    """

    variants: tuple[str, ...] = VARIANTS


def imagenet_9(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Classify each variant among all classes, and count a right group.

    Returns:
        ``top1`` of each variant, and their difference of ``mixed_same`` and ``mixed_rand``, what
        a classifier owes to backgrounds. In percent.

    Raises:
        DataError: If the data or its classes do not serve.
    """
    settings = settings_of(options, 'imagenet_9', ImageNet9Settings)
    classifier = classifier_of(network)
    groups = groups_of_classes(
        root, check_class_folders(root / settings.variants[0] / 'val', LAYOUT), classifier.classes
    )
    measured, accuracies = [], {}
    for variant in settings.variants:
        view = center_view(classifier.image_size)
        dataset = class_folder(root / variant / 'val', view, LAYOUT)
        predictions, labels = predict_folder(network, dataset, options, variant)
        accuracies[variant] = percent(groups[predictions] == labels)
        setting = dict(variant=variant, images=len(dataset))
        measured.append(Measurement(setting, dict(top1=accuracies[variant])))
    if {'mixed_same', 'mixed_rand'} <= set(accuracies):
        gap = accuracies['mixed_same'] - accuracies['mixed_rand']
        measured.append(Measurement({}, dict(background_gap=gap)))
    return measured


def groups_of_classes(root: Path, names: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Return the group of each class of a classifier, -1 where it has none, (C,).

    Args:
        root: Where there may be a file of groups.
        names: Of the groups' folders.
        classes: Of the classifier.

    Raises:
        DataError: If the file does not fit, or nothing tells the groups.
    """
    path = root / GROUPS_FILE
    if path.is_file():
        return _read_groups(path, len(names), len(classes))
    if set(classes) == set(names):
        return torch.tensor([list(names).index(name) for name in classes])
    if is_imagenet(classes) and len(names) == NUM_GROUPS:
        return imagenet9_groups()
    raise DataError(
        f'the {len(classes)} classes of the classifier ({", ".join(classes[:4])}) are not '
        f"ImageNet's 1000, nor the {len(names)} of {root} ({', '.join(names[:4])}): give a "
        f'classifier of one of them, or write their groups to {path}'
    )


def _read_groups(path: Path, num_groups: int, num_classes: int) -> Tensor:
    try:
        content = {int(key): int(group) for key, group in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f'{path} is not a table of class number -> group number') from error
    outside = [group for group in content.values() if not -1 <= group < num_groups]
    if sorted(content) != list(range(num_classes)) or outside:
        raise DataError(
            f'{path} has groups of {len(content)} classes, and the classifier has {num_classes}: '
            f'each class from 0 on needs a group from 0 to {num_groups - 1}, or -1 for none'
        )
    return torch.tensor([content[number] for number in range(num_classes)])


def check_imagenet_9(root: Path, options: Options) -> None:
    """Refuse a folder in which variants or groups are missing.

    Raises:
        DataError: If there are such.
    """
    settings = settings_of(options, 'imagenet_9', ImageNet9Settings)
    if not settings.variants:
        raise ValueError(f'imagenet_9.variants must name at least one of {", ".join(VARIANTS)}')
    missing = [name for name in settings.variants if not (root / name / 'val').is_dir()]
    if missing:
        raise DataError(
            f'{root} has no folder val in {len(missing)} of {len(settings.variants)} variants: '
            f'{", ".join(missing)}. Unpack them, or name those that there are by '
            f'imagenet_9.variants.{LAYOUT}'
        )
    found = {name: check_class_folders(root / name / 'val', LAYOUT) for name in settings.variants}
    first = settings.variants[0]
    if other := [name for name, groups in found.items() if groups != found[first]]:
        raise DataError(
            f'the groups of {other[0]} are {", ".join(found[other[0]])}, those of {first} '
            f'{", ".join(found[first])}: unpack the data again.{LAYOUT}'
        )


def check_imagenet_9_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse a classifier whose classes have no known groups.

    Raises:
        DataError: If it is such.
    """
    settings = settings_of(options, 'imagenet_9', ImageNet9Settings)
    names = check_class_folders(root / settings.variants[0] / 'val', LAYOUT)
    groups_of_classes(root, names, classes)
