# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The labeled images of an evaluation: a training split and a held-out one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch import Tensor

from ibot_mm.functional.class_labels import absent_classes, class_difference

PREPARE = """
Put the images into one folder per class, with the same classes in both splits:
    ROOT/train/CLASS/*.jpg
    ROOT/val/CLASS/*.jpg"""


class DataError(ValueError):
    """Images or labels that do not serve an evaluation."""


def folder_splits(
    root: str | Path, pipeline: Sequence[Mapping[str, Any]], names: Sequence[str] = ('train', 'val')
) -> tuple[BaseDataset, BaseDataset]:
    """Return the training and held-out split of a folder of class folders.

    Args:
        root: Folder of both splits.
        pipeline: View of the images, see :func:`~ibot_mm.evaluation.views.evaluation_view`.
        names: Of their folders. Defaults to 'train' and 'val'.

    Raises:
        DataError: See :func:`check_splits`; or if a folder does not exist or holds no class.
    """
    sources = {}
    for name in names:
        folder = Path(root) / name
        if not folder.is_dir():
            raise DataError(f'there is no folder {folder}.{PREPARE}')
        if not any(path.is_dir() for path in folder.iterdir()):
            raise DataError(
                f'the images of {folder} have no labels: there are no class folders in it.{PREPARE}'
            )
        sources[name] = dict(type='ibot_mm.ImageFolder', data_root=str(folder))
    return labeled_splits(sources, pipeline)


def labeled_splits(
    sources: Mapping[str, Mapping[str, Any]], pipeline: Sequence[Mapping[str, Any]]
) -> tuple[BaseDataset, BaseDataset]:
    """Return the training and held-out split of two data sets with labels.

    Args:
        sources: Name of the split -> config of its data set, the training split first.
        pipeline: As of :func:`folder_splits`.

    Raises:
        DataError: See :func:`check_splits`; or if a split holds no labeled images.
    """
    splits = []
    for config in sources.values():
        try:
            splits.append(DATASETS.build(dict(config, with_label=True, pipeline=list(pipeline))))
        except ValueError as error:
            raise DataError(f'{error}{PREPARE}') from error
    train, held_out = splits
    check_splits(train, held_out, tuple(sources))
    return train, held_out


def check_splits(
    train: BaseDataset, held_out: BaseDataset, names: Sequence[str] = ('train', 'val')
) -> None:
    """Refuse splits that would give a number without meaning.

    Args:
        train: Labeled images to learn from.
        held_out: Labeled images to be classified.
        names: For messages. Defaults to 'train' and 'val'.

    Raises:
        DataError: If a split has no labels, classes differ, a class has no image in a split, or
            there is only one class.
    """
    for split, name in zip((train, held_out), names):
        if len(split) == 0 or split.get_data_info(0).get('gt_label') is None:
            raise DataError(f'the images of split {name} have no labels.{PREPARE}')
    classes = {
        name: tuple(split.metainfo.get('classes') or ())
        for split, name in zip((train, held_out), names)
    }
    first = classes[names[0]]
    if difference := class_difference(classes):
        raise DataError(f'the classes of both splits differ: {difference}')
    if first and len(first) < 2:
        raise DataError(f'there is only one class, {first[0]!r}: two are needed')
    labels = {
        f'split {name}': labels_of(split).unique().tolist()
        for split, name in zip((train, held_out), names)
    }
    if absent := absent_classes(labels, range(len(first)), first):
        raise DataError(absent)


def labels_of(dataset: BaseDataset) -> Tensor:
    """Return the labels (N,) of a data set, in its order."""
    return torch.as_tensor(np.array(dataset.get_gt_labels(), dtype=np.int64))


class ImagePaths(Sequence[str]):
    """Paths of all images of a data set, in its order, read from it one by one."""

    def __init__(self, dataset: BaseDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Count the images."""
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        """Read the path of an image."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.dataset.get_data_info(index)['img_path']
