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
    splits = []
    for name in names:
        folder = Path(root) / name
        if not folder.is_dir():
            raise DataError(f'there is no folder {folder}.{PREPARE}')
        if not any(path.is_dir() for path in folder.iterdir()):
            raise DataError(
                f'the images of {folder} have no labels: there are no class folders in it.{PREPARE}'
            )
        config = dict(
            type='ibot_mm.ImageFolder',
            data_root=str(folder),
            with_label=True,
            pipeline=list(pipeline),
        )
        try:
            splits.append(DATASETS.build(config))
        except ValueError as error:
            raise DataError(f'{error}{PREPARE}') from error
    train, held_out = splits
    check_splits(train, held_out, names)
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
    classes = [tuple(split.metainfo.get('classes') or ()) for split in (train, held_out)]
    if classes[0] != classes[1]:
        raise DataError(f'the classes of both splits differ: {_difference(classes, names)}')
    if classes[0] and len(classes[0]) < 2:
        raise DataError(f'there is only one class, {classes[0][0]!r}: two are needed')
    for split, name in zip((train, held_out), names):
        if missing := sorted(set(range(len(classes[0]))) - set(labels_of(split).tolist())):
            listed = ', '.join(repr(classes[0][label]) for label in missing[:4])
            raise DataError(
                f'split {name} has no image of {len(missing)} of {len(classes[0])} classes: '
                f'{listed}{", ..." if len(missing) > 4 else ""}'
            )


def labels_of(dataset: BaseDataset) -> Tensor:
    """Return the labels (N,) of a data set, in its order."""
    return torch.as_tensor(np.array(dataset.get_gt_labels(), dtype=np.int64))


def paths_of(dataset: BaseDataset) -> list[str]:
    """Return the paths of all images of a data set, in its order."""
    return [dataset.get_data_info(index)['img_path'] for index in range(len(dataset))]


def _difference(classes: Sequence[tuple[str, ...]], names: Sequence[str]) -> str:
    alone = [sorted(set(classes[i]) - set(classes[1 - i])) for i in (0, 1)]
    parts = [
        f'only {name} has {", ".join(map(repr, found[:4]))}{", ..." if len(found) > 4 else ""}'
        for name, found in zip(names, alone)
        if found
    ]
    return '; '.join(parts) or f'their order differs, {classes[0][:4]} and {classes[1][:4]}'
