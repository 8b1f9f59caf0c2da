# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images in class folders, given to the classifier batch by batch."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import (
    all_gather_object,
    barrier,
    get_rank,
    get_world_size,
    is_main_process,
)
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor

from ..cache import fingerprint_images
from ..classifier import Classifier
from ..extraction import Loading, batches, track
from ..protocols.measurement import Options
from ..splits import DataError, ImagePaths, labels_of
from .network import TaskNetwork, preparation

T = TypeVar('T')
WORDNET_ID = re.compile(r'n\d{8}')


class LabeledBatch(NamedTuple):
    """Some images of a data set.

    Args:
        rows: Their numbers.
        pixels: As mm loads them, uint8, BGR, (B, 3, H, W).
        images: Prepared for the network, (B, 3, H, W).
        labels: Numbers of their class folders, (B,), on the CPU.
    """

    rows: Sequence[int]
    pixels: Tensor
    images: Tensor
    labels: Tensor


def check_class_folders(root: Path, layout: str) -> tuple[str, ...]:
    """Refuse a folder without class folders, or with an empty one, and name its classes.

    Args:
        root: Folder of the class folders.
        layout: What to say of how the data should lie.

    Raises:
        DataError: If it is.
    """
    if not root.is_dir():
        raise DataError(f'there is no folder {root}.{layout}')
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not folders:
        raise DataError(f'there are no class folders in {root}.{layout}')
    if empty := [folder.name for folder in folders if next(folder.iterdir(), None) is None]:
        raise DataError(
            f'{len(empty)} of {len(folders)} class folders of {root} are empty, first {empty[0]}: '
            f'unpack the data again.{layout}'
        )
    return tuple(folder.name for folder in folders)


def columns_of(names: Sequence[str], classes: Sequence[str], root: Path) -> Tensor:
    """Find class folders among the classes of a classifier.

    Args:
        names: Of the folders.
        classes: Of the classifier.
        root: Folder of the class folders, for the message.

    Returns:
        Places in ``classes``, (K,).

    Raises:
        DataError: If there is a folder that the classifier does not know, or only one class.
    """
    places = {name: place for place, name in enumerate(classes)}
    if unknown := [name for name in names if name not in places]:
        raise DataError(
            f'{len(unknown)} of the {len(names)} class folders of {root} are not among the '
            f'{len(classes)} classes of the classifier: {", ".join(unknown[:4])} against '
            f'{", ".join(classes[:4])}. The classifier must be of the classes that the data has; '
            'for variants of ImageNet fit it on ImageNet, with folders such as n01440764'
        )
    if len(names) < 2:
        raise DataError(f'{root} has only one class, {names[0]}: two are needed')
    return torch.tensor([places[name] for name in names])


def is_imagenet(classes: Sequence[str]) -> bool:
    """Tell whether the classes of a classifier are the 1000 of ImageNet, by their ids."""
    return len(classes) == 1000 and all(WORDNET_ID.fullmatch(name) for name in classes)


def class_folder(root: Path, view: Sequence[Mapping[str, Any]], layout: str) -> BaseDataset:
    """Make a data set of a folder of class folders.

    Args:
        root: The folder.
        view: Pipeline, see :func:`~ibot_mm.evaluation.views.evaluation_view`.
        layout: What to say of how the data should lie.

    Raises:
        DataError: If there are no images.
    """
    init_default_scope('mmpretrain')
    config = dict(
        type='ibot_mm.ImageFolder', data_root=str(root), with_label=True, pipeline=list(view)
    )
    try:
        dataset: BaseDataset = DATASETS.build(config)
    except (ValueError, FileNotFoundError) as error:
        raise DataError(f'{error}{layout}') from error
    return dataset


def classifier_of(network: TaskNetwork) -> Classifier:
    """Return the classifier that tasks of robustness need.

    Raises:
        ValueError: If there is none.
    """
    if network.classifier is None:
        raise ValueError(
            f'{network.name} comes without a classifier: fit one by '
            'ibot_mm.evaluation.linear_classifier, or give a checkpoint with a head'
        )
    return network.classifier


def labeled_batches(
    network: TaskNetwork, dataset: BaseDataset, options: Options, title: str, shared: bool = True
) -> Iterator[LabeledBatch]:
    """Load all images of a data set.

    Args:
        network: With a classifier, whose image size the views must have.
        dataset: Of :func:`class_folder`.
        options: ``images_per_batch``, ``num_workers`` and ``device``.
        title: Of the progress.
        shared: Whether processes share the images, each with its part of them in their order.
            Defaults to True.

    Raises:
        DataError: If the view of an image is of another size, which images smaller than it are.
    """
    size = classifier_of(network).image_size
    loading = Loading(options.images_per_batch, options.num_workers, options.device)
    prepare, labels = preparation(network), labels_of(dataset)
    first = tuple(dataset[0]['inputs'].shape[-2:])
    if first != (size, size):
        raise DataError(
            f'{dataset.get_data_info(0)["img_path"]} comes as {first[0]} x {first[1]} pixels, and '
            f'the classifier sees {size} x {size}: give larger images, or a classifier of that '
            'view (--image-size)'
        )
    rows: Any = np.arange(len(dataset))
    if shared:
        rows = np.array_split(rows, get_world_size())[get_rank()]
    for numbers, batch in track(batches(dataset, rows, loading), len(rows), title):
        pixels = batch['inputs'].to(options.device)
        with torch.no_grad():
            yield LabeledBatch(numbers, pixels, prepare(pixels), labels[numbers])


def predict_folder(
    network: TaskNetwork, dataset: BaseDataset, options: Options, title: str
) -> tuple[Tensor, Tensor]:
    """Predict the class of all images of a data set, or find that it was done.

    Predictions are kept in ``work_dir/predictions``, so that what was interrupted goes on.

    Returns:
        Predictions (N,), places among the classifier's classes, and labels (N,), numbers of the
        class folders.
    """
    classifier = classifier_of(network)
    path = _stored(classifier, dataset, options)
    if path is not None and path.is_file():
        with np.load(path) as file:
            return torch.from_numpy(file['predictions']), torch.from_numpy(file['labels'])
    found = gather(
        (classifier.logits(batch.images).argmax(dim=1).cpu(), batch.labels)
        for batch in labeled_batches(network, dataset, options, title)
    )
    predictions, labels = (torch.cat(parts) for parts in zip(*found))
    if path is not None and is_main_process():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix('.tmp.npz')
        np.savez(temporary, predictions=predictions.numpy(), labels=labels.numpy())
        temporary.replace(path)
    barrier()
    return predictions, labels


def _stored(classifier: Classifier, dataset: BaseDataset, options: Options) -> Path | None:
    """File of the predictions of a data set; None of a classifier that is not known."""
    if not classifier.key:
        return None
    view = [str(transform) for transform in dataset.pipeline.transforms]
    text = '\n'.join([classifier.key, fingerprint_images(ImagePaths(dataset)), *view])
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Path(options.work_dir) / 'predictions' / f'{name}.npz'


def gather(parts: Iterable[T]) -> list[T]:
    """Collect what the processes found, in the order of the images."""
    return [part for of_process in all_gather_object(list(parts)) for part in of_process]


def percent(hits: Tensor) -> float:
    """Share of True, in percent."""
    return 100 * float(hits.double().mean())
