# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""ImageNet-A, natural images that classifiers get wrong (arXiv 1907.07174).

Layout, of 200 of ImageNet's classes, or any of the classifier's::

    ROOT/n01498041/*.jpg

``imagenet-a.tar`` is linked from https://github.com/hendrycks/natural-adv-examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ibot_mm.functional.robustness import (
    predict_within,
    response_rate_accuracy,
    rms_calibration_error,
)

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
    percent,
)
from .network import TaskNetwork
from .settings import settings_of

LAYOUT = """
It needs imagenet-a.tar (github.com/hendrycks/natural-adv-examples), unpacked:
    ROOT/n01498041/*.jpg    200 folders"""


@dataclass(frozen=True)
class ImageNetASettings:
    """Settings of ImageNet-A.

    Args:
        bin_size: Images of a bin of the calibration error.
        as_published: Whether to leave the most confident bin out of the calibration error, as the
            published code does.
    """

    bin_size: int = 100
    as_published: bool = False


def imagenet_a(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Classify among the classes that have a folder.

    Returns:
        ``top1``, ``rms_calibration_error`` and ``aurra``, in percent.

    Raises:
        DataError: If the data or its classes do not serve.
    """
    settings = settings_of(options, 'imagenet_a', ImageNetASettings)
    return [measure_within(network, root, options, settings, 'imagenet_a', LAYOUT)]


def measure_within(
    network: TaskNetwork,
    root: Path,
    options: Options,
    settings: ImageNetASettings,
    name: str,
    layout: str,
) -> Measurement:
    """Measure accuracy and calibration among the classes that have a folder."""
    classifier = classifier_of(network)
    view = evaluation_view(classifier.image_size, interpolation='bilinear')
    dataset = class_folder(root, view, layout)
    columns = columns_of(dataset.metainfo['classes'], classifier.classes, root)

    def measure(batch: LabeledBatch) -> tuple[Tensor, Tensor]:
        predictions, confidence = predict_within(classifier.logits(batch.images), columns)
        return predictions.cpu() == batch.labels, confidence.cpu()

    found = gather(map(measure, labeled_batches(network, dataset, options, name)))
    right, sure = (torch.cat(parts) for parts in zip(*found))
    error = rms_calibration_error(sure, right, settings.bin_size, settings.as_published)
    metrics = dict(
        top1=percent(right),
        rms_calibration_error=100 * error,
        aurra=100 * response_rate_accuracy(sure, right),
    )
    return Measurement(dict(images=len(dataset), classes=len(columns)), metrics)


def check_imagenet_a(root: Path, options: Options) -> None:
    """Refuse a folder without class folders, or options out of range.

    Raises:
        DataError: If the data does not serve.
        ValueError: If an option does not.
    """
    settings = settings_of(options, 'imagenet_a', ImageNetASettings)
    if settings.bin_size < 1:
        raise ValueError(f'imagenet_a.bin_size must be at least 1, got {settings.bin_size}')
    check_class_folders(root, LAYOUT)


def check_imagenet_a_classes(
    root: Path, options: Options, classes: Sequence[str], image_size: int
) -> None:
    """Refuse folders that are not of the classifier's classes.

    Raises:
        DataError: If there are such.
    """
    columns_of(check_class_folders(root, LAYOUT), classes, root)
