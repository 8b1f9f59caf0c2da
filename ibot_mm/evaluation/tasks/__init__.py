# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluations that need the network itself, or data of their own; one file each.

A task is a function of a network, the folder of its data and :class:`Options` that returns
measurements. Text in a measurement's setting says what was measured and makes a row of the table;
numbers are what was tuned, of which the best is the result. The check of a task refuses missing or
half-prepared data before any weight is loaded. Tasks of ``CLASS_CHECKS`` need a classifier too;
their second check refuses classes that do not fit before anything is computed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..protocols.measurement import Measurement, Options
from .backgrounds import backgrounds, check_backgrounds, check_backgrounds_classes
from .copydays import check_copydays, copydays
from .davis import check_davis, davis
from .dense import check_dense, dense
from .imagenet_9 import check_imagenet_9, check_imagenet_9_classes, imagenet_9
from .imagenet_a import check_imagenet_a, check_imagenet_a_classes, imagenet_a
from .imagenet_c import check_imagenet_c, check_imagenet_c_classes, imagenet_c
from .imagenet_r import check_imagenet_r, check_imagenet_r_classes, imagenet_r
from .network import TaskNetwork
from .occlusion import check_occlusion, check_occlusion_classes, occlusion
from .part_linear import check_part_linear, part_linear
from .retrieval import check_retrieval, retrieval
from .settings import check_settings, settings_of
from .shuffle import check_shuffle, check_shuffle_classes, shuffle

Task = Callable[[TaskNetwork, Path, Options], list[Measurement]]
Check = Callable[[Path, Options], None]
ClassCheck = Callable[[Path, Options, Sequence[str], int], None]
TASKS: dict[str, Task] = dict(
    retrieval=retrieval,
    copydays=copydays,
    davis=davis,
    part_linear=part_linear,
    dense=dense,
    imagenet_a=imagenet_a,
    imagenet_r=imagenet_r,
    imagenet_c=imagenet_c,
    imagenet_9=imagenet_9,
    backgrounds=backgrounds,
    occlusion=occlusion,
    shuffle=shuffle,
)
CHECKS: dict[str, Check] = dict(
    retrieval=check_retrieval,
    copydays=check_copydays,
    davis=check_davis,
    part_linear=check_part_linear,
    dense=check_dense,
    imagenet_a=check_imagenet_a,
    imagenet_r=check_imagenet_r,
    imagenet_c=check_imagenet_c,
    imagenet_9=check_imagenet_9,
    backgrounds=check_backgrounds,
    occlusion=check_occlusion,
    shuffle=check_shuffle,
)
CLASS_CHECKS: dict[str, ClassCheck] = dict(
    imagenet_a=check_imagenet_a_classes,
    imagenet_r=check_imagenet_r_classes,
    imagenet_c=check_imagenet_c_classes,
    imagenet_9=check_imagenet_9_classes,
    backgrounds=check_backgrounds_classes,
    occlusion=check_occlusion_classes,
    shuffle=check_shuffle_classes,
)
# Tasks that read ROOT/val of the images that the classifier is fitted to.
OF_VALIDATION = ('imagenet_c', 'occlusion', 'shuffle')

__all__ = [
    'CHECKS',
    'CLASS_CHECKS',
    'OF_VALIDATION',
    'TASKS',
    'Check',
    'ClassCheck',
    'Task',
    'TaskNetwork',
    'check_settings',
    'settings_of',
]
