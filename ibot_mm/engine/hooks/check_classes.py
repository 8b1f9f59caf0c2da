# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A look at the labels before a classifier is trained."""

from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ibot_mm.functional.class_labels import absent_classes, class_difference
from ibot_mm.registry import HOOKS


@HOOKS.register_module()
class CheckClassesHook(Hook):
    """Compares the labels of the training and validation data with each other and with the head.

    Before time is spent: a head of too many classes trains without a word, one of too few fails in
    the middle of an epoch on a GPU.

    Args:
        allow_missing (bool): Whether the splits may hold different classes of the head's, as for a
            quick look at a few images. Defaults to False.
    """

    def __init__(self, allow_missing: bool = False) -> None:
        self.allow_missing = allow_missing

    def before_train(self, runner: Runner) -> None:
        """Check the labels.

        Raises:
            ValueError: If a split has no labels or one class, the number of classes is not the
                head's, the splits name their classes differently, or classes are missing in one.
        """
        splits = dict(train=runner.train_dataloader.dataset)
        if runner.val_dataloader is not None:
            splits['val'] = runner.val_loop.dataloader.dataset
        labels = {split: _labels(dataset, split) for split, dataset in splits.items()}
        model = getattr(runner.model, 'module', runner.model)
        num_classes = getattr(model.head, 'num_classes', None)
        for split, present in labels.items():
            if len(present) < 2:
                raise ValueError(
                    f'All images of {split}_dataloader have the label {present[0]}: a classifier '
                    'needs at least two classes.'
                )
            if num_classes and present[-1] >= num_classes:
                raise ValueError(
                    f'{split}_dataloader has the label {present[-1]}, and '
                    f'model.head.num_classes is {num_classes}: set it to at least '
                    f'{present[-1] + 1}, with that of model.data_preprocessor.'
                )
        found = set().union(*labels.values())
        if num_classes and len(found) < num_classes and not self.allow_missing:
            raise ValueError(
                f'The data have {len(found)} classes, and model.head.num_classes is {num_classes}: '
                f'set it to {max(found) + 1}, with that of model.data_preprocessor. If these data '
                'are a part on purpose, set default_hooks.classes.allow_missing=True.'
            )
        _compare_names(splits)
        by_loader = {f'{split}_dataloader': values for split, values in labels.items()}
        absent = absent_classes(by_loader, found)
        if absent and not self.allow_missing:
            raise ValueError(
                f'{absent}. Are both splits of the same data? If it is on purpose, set '
                'default_hooks.classes.allow_missing=True.'
            )


def _labels(dataset: Any, split: str) -> list[int]:
    """Return the different labels of a data set, in order."""
    if not hasattr(dataset, 'get_gt_labels'):
        raise ValueError(
            f'{type(dataset).__name__} of {split}_dataloader does not have get_gt_labels(): use a '
            "data set of mmpretrain's or ibot_mm's, or leave out default_hooks.classes."
        )
    try:
        labels = np.unique(dataset.get_gt_labels())
    except KeyError as error:
        raise ValueError(
            f'The images of {split}_dataloader have no labels: set with_label=True of its data '
            'set, with class folders or an annotation file of paths and labels.'
        ) from error
    if len(labels) == 0:
        raise ValueError(f'{split}_dataloader has no image.')
    return labels.tolist()


def _compare_names(splits: dict[str, Any]) -> None:
    """Classes that are named by their folders must be the same folders."""
    names = {split: getattr(dataset, 'CLASSES', None) or () for split, dataset in splits.items()}
    if len(names) < 2 or not all(names.values()):
        return
    if difference := class_difference(names):
        raise ValueError(
            f'Training and validation data name their classes differently: {difference}. Labels '
            'count the folders of a split in order, so that they would not mean the same.'
        )
