# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""ImageNet-R, renditions such as paintings and toys (arXiv 2006.16241).

Layout, of 200 of ImageNet's classes, or any of the classifier's::

    ROOT/n01443537/*.jpg

``imagenet-r.tar`` is linked from https://github.com/hendrycks/imagenet-r.
"""

from collections.abc import Sequence
from pathlib import Path

from ..protocols.measurement import Measurement, Options
from .class_folders import check_class_folders, columns_of
from .imagenet_a import ImageNetASettings, measure_within
from .network import TaskNetwork
from .settings import settings_of

LAYOUT = """
It needs imagenet-r.tar (github.com/hendrycks/imagenet-r), unpacked:
    ROOT/n01443537/*.jpg    200 folders"""


def imagenet_r(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Classify among the classes that have a folder.

    Returns:
        ``top1``, ``rms_calibration_error`` and ``aurra``, in percent.

    Raises:
        DataError: If the data or its classes do not serve.
    """
    settings = settings_of(options, 'imagenet_r', ImageNetASettings)
    return [measure_within(network, root, options, settings, 'imagenet_r', LAYOUT)]


def check_imagenet_r(root: Path, options: Options) -> None:
    """Refuse a folder without class folders, or options out of range.

    Raises:
        DataError: If the data does not serve.
        ValueError: If an option does not.
    """
    settings = settings_of(options, 'imagenet_r', ImageNetASettings)
    if settings.bin_size < 1:
        raise ValueError(f'imagenet_r.bin_size must be at least 1, got {settings.bin_size}')
    check_class_folders(root, LAYOUT)


def check_imagenet_r_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse folders that are not of the classifier's classes.

    Raises:
        DataError: If there are such.
    """
    columns_of(check_class_folders(root, LAYOUT), classes, root)
