# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The published loader, from a clone of its repository, on today's versions."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

# What its training script imports beside the loader: not needed here, or not installable.
UNUSED = (
    'tensorboardX',
    'models',
    'models.head',
    'evaluation',
    'evaluation.unsupervised',
    'evaluation.unsupervised.unsup_cls',
)


@contextmanager
def _importable(clone: Path) -> Iterator[None]:
    before = set(sys.modules)
    stand_ins = {name: MagicMock() for name in UNUSED}
    with patch.dict(sys.modules, stand_ins), patch.object(sys, 'path', [str(clone), *sys.path]):
        yield
    for name in ('main_ibot', 'loader', 'utils'):  # too common to leave behind
        if name not in before:
            sys.modules.pop(name, None)


def published_dataset(clone: str | Path, images: str | Path) -> Any:
    """Its data set, with its augmentation and masks as for ViT-S/16.

    Args:
        clone: Of https://github.com/bytedance/ibot.
        images: Folder of class folders.

    Returns:
        A data set of (crops, label, masks).

    Raises:
        FileNotFoundError: The clone lacks its training script or its loader.
    """
    clone = Path(clone)
    for name in ('main_ibot.py', 'loader.py'):
        if not (clone / name).is_file():
            raise FileNotFoundError(
                f'{clone} has no {name}: --reference takes a clone of '
                'https://github.com/bytedance/ibot'
            )
    with _importable(clone):
        script = importlib.import_module('main_ibot')
        loader = importlib.import_module('loader')
    return loader.ImageFolderMask(
        str(images),
        transform=script.DataAugmentationiBOT((0.25, 1.0), (0.05, 0.25), 2, 10),
        patch_size=16,
        pred_ratio=[0, 0.3],
        pred_ratio_var=[0, 0.2],
        pred_aspect_ratio=(0.3, 1 / 0.3),
        pred_shape='block',
    )
