# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""ImageNet-C, 19 corruptions at 5 severities (arXiv 1903.12261), from disk or made on the fly.

Layout of ImageNet-C, with or without the folder of a group (noise, blur, weather, digital, extra)
before that of a corruption::

    ROOT/gaussian_noise/1/n01440764/*.JPEG

The archives are at https://zenodo.org/records/2235448. Where there is ``ROOT/val``, corruptions are
made from these clean images, of ImageNet or of any data with the classifier's classes::

    ROOT/val/n01440764/*.JPEG

Numbers of images made on the fly are near those of ImageNet-C, not the same: random numbers differ,
and frost is made without the photographs of ImageNet-C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibot_mm.functional.corruptions import CORRUPTIONS, JPEG_QUALITY, SEVERITIES
from ibot_mm.functional.robustness import ALEXNET_ERRORS, mean_corruption_error, mean_error

from ..protocols.measurement import Measurement, Options
from ..splits import DataError
from ..views import center_view, evaluation_view
from .class_folders import (
    check_class_folders,
    class_folder,
    classifier_of,
    columns_of,
    is_imagenet,
    percent,
    predict_folder,
)
from .network import TaskNetwork
from .settings import settings_of

CLEAN = 'val'
LAYOUT = """
It needs clean images, or ImageNet-C (zenodo.org/records/2235448), unpacked:
    ROOT/val/CLASS/*.JPEG                        corruptions are made on the fly
    ROOT/[GROUP/]gaussian_noise/1/CLASS/*.JPEG   19 corruptions, severities 1 to 5"""


@dataclass(frozen=True)
class ImageNetCSettings:
    """Settings of ImageNet-C.

    Args:
        corruptions: Names; all 19 are published.
        severities: 1 to 5.
        jpeg_quality: That corrupted images are stored with, where they are made on the fly: 85 in
            ImageNet-C; 0 is without.
        seed: Of corruptions made on the fly.
    """

    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    severities: tuple[int, ...] = SEVERITIES
    jpeg_quality: int = JPEG_QUALITY
    seed: int = 0


def imagenet_c(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Classify corrupted images.

    Returns:
        ``mean_error`` over corruptions, which the paper calls mCE, and ``mce``, which is divided
        by AlexNet's errors, where all 15 corruptions of it are measured at all severities on
        ImageNet's 1000 classes; the ``error`` of each corruption, its severities in the setting;
        and the error on clean images, where there are. All in percent.

    Raises:
        DataError: If the data or its classes do not serve.
    """
    settings = settings_of(options, 'imagenet_c', ImageNetCSettings)
    errors: dict[str, list[float]] = {}
    images = 0
    for name in settings.corruptions:
        errors[name] = []
        for severity in settings.severities:
            error, number = _error(network, root, name, severity, settings, options)
            if images not in (0, number):
                raise DataError(
                    f'{_corrupted(root, name) / str(severity)} has {number} images, and the '
                    f'folders before it have {images}: unpack the data again.{LAYOUT}'
                )
            images = number
            errors[name].append(error)
    found = dict(mean_error=mean_error(errors))
    complete = set(ALEXNET_ERRORS) <= set(errors) and settings.severities == SEVERITIES
    if complete and is_imagenet(classifier_of(network).classes):
        found['mce'] = mean_corruption_error(errors)
    total = dict(images=images, corruptions=len(errors))
    measured = [Measurement(total, found)]
    if (root / CLEAN).is_dir():
        error, _ = _error(network, root, None, 0, settings, options)
        measured.append(Measurement(dict(corruption='none', images=images), dict(error=error)))
    for name, of_severities in errors.items():
        setting: dict[str, Any] = dict(corruption=name, images=images)
        setting |= {f's{s}': e for s, e in zip(settings.severities, of_severities)}
        mean = sum(of_severities) / len(of_severities)
        measured.append(Measurement(setting, dict(error=mean)))
    return measured


def _error(
    network: TaskNetwork,
    root: Path,
    name: str | None,
    severity: int,
    settings: ImageNetCSettings,
    options: Options,
) -> tuple[float, int]:
    """Error in percent, and the number of images."""
    classifier = classifier_of(network)
    folder, view = root / CLEAN, evaluation_view(classifier.image_size, interpolation='bilinear')
    if name is not None and folder.is_dir():
        corrupt = dict(
            type='ibot_mm.Corrupt',
            corruption=name,
            severity=severity,
            seed=settings.seed,
            jpeg_quality=settings.jpeg_quality or None,
        )
        view = [*view[:-1], corrupt, view[-1]]
    elif name is not None:
        folder, view = _corrupted(root, name) / str(severity), center_view(classifier.image_size)
    dataset = class_folder(folder, view, LAYOUT)
    columns = columns_of(dataset.metainfo['classes'], classifier.classes, folder)
    title = 'clean' if name is None else f'{name} {severity}'
    predictions, labels = predict_folder(network, dataset, options, title)
    return 100 - percent(predictions == columns[labels]), len(dataset)


def check_imagenet_c(root: Path, options: Options) -> None:
    """Refuse a folder in which corruptions, severities or classes are missing.

    Raises:
        DataError: If there is such.
        ValueError: If an option is out of range.
    """
    settings = settings_of(options, 'imagenet_c', ImageNetCSettings)
    names, severities = settings.corruptions, settings.severities
    if unknown := [name for name in names if name not in CORRUPTIONS]:
        raise ValueError(
            f'imagenet_c.corruptions: unknown {unknown[0]!r}, choose from {", ".join(CORRUPTIONS)}'
        )
    if not names or not severities or set(severities) - set(SEVERITIES):
        raise ValueError(
            'imagenet_c needs at least one corruption, and severities from 1 to 5, got '
            f'{severities}'
        )
    if not 0 <= settings.jpeg_quality <= 100 or settings.seed < 0:
        raise ValueError(
            'imagenet_c.jpeg_quality must be from 0 to 100 and imagenet_c.seed at least 0, got '
            f'{settings.jpeg_quality} and {settings.seed}'
        )
    if (root / CLEAN).is_dir():
        check_class_folders(root / CLEAN, LAYOUT)
        return
    present = [name for name in names if _find(root, name)]
    if not present:
        raise DataError(
            f'{root} has neither {CLEAN} nor a corruption of ImageNet-C: choose the folder above '
            f'them.{LAYOUT}'
        )
    if missing := [name for name in names if name not in present]:
        raise DataError(
            f'{root} has no folder of {len(missing)} of {len(names)} corruptions: '
            f'{", ".join(missing)}. Unpack them, or name those that there are by '
            f'imagenet_c.corruptions.{LAYOUT}'
        )
    first = None
    for name in names:
        for severity in severities:
            folder = _corrupted(root, name) / str(severity)
            classes = check_class_folders(folder, LAYOUT)
            first = first or (folder, classes)
            if classes != first[1]:
                raise DataError(
                    f'{folder} has {len(classes)} class folders and {first[0]} has '
                    f'{len(first[1])}, of other names: unpack the data again.{LAYOUT}'
                )


def check_imagenet_c_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse folders that are not of the classifier's classes.

    Raises:
        DataError: If there are such.
    """
    settings = settings_of(options, 'imagenet_c', ImageNetCSettings)
    folder = root / CLEAN
    if not folder.is_dir():
        folder = _corrupted(root, settings.corruptions[0]) / str(settings.severities[0])
    columns_of(check_class_folders(folder, LAYOUT), classes, folder)


def _find(root: Path, name: str) -> list[Path]:
    return [path for path in (root / name, *root.glob(f'*/{name}')) if path.is_dir()]


def _corrupted(root: Path, name: str) -> Path:
    return _find(root, name)[0]
