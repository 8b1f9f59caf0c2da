# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pictures of what detectors and segmentors predict, beside the ground truth."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.dataset import pseudo_collate

from .style import picture_grid, save_figure, show_picture

CELL = 3.2  # inches per picture


@torch.no_grad()
def predict_samples(model: Any, samples: Sequence[dict]) -> list[Any]:
    """Run a detector or segmentor on samples of its test data set.

    Args:
        model: A built detector or segmentor (``BaseModel`` of mmengine).
        samples: As the data set's ``__getitem__`` gives them.

    Returns:
        One data sample for each, with ground truth, where the pipeline loads it, and predictions.
    """
    model.eval()
    return [model.test_step(pseudo_collate([sample]))[0] for sample in samples]


def draw_samples(visualizer: Any, data_samples: Sequence[Any], **what: Any) -> list[np.ndarray]:
    """Draw data samples on their images by mm's own visualizer.

    Args:
        visualizer: mmdet's or mmseg's local visualizer, with ``dataset_meta`` set.
        data_samples: With ``img_path``, as from :func:`predict_samples`.
        **what: Arguments of the visualizer's ``add_datasample``, such as ``draw_gt=False``.

    Returns:
        One (H, W, 3) uint8 RGB picture for each.
    """
    pictures = []
    for data_sample in data_samples:
        image = mmcv.imread(data_sample.img_path, channel_order='rgb')
        visualizer.add_datasample('', image, data_sample, **what)
        pictures.append(visualizer.get_image())
    return pictures


def save_table_of_pictures(path: str | Path, columns: dict[str, Sequence[np.ndarray]]) -> Path:
    """Write pictures side by side as a PNG; folders are made.

    Args:
        path: The PNG.
        columns: Title -> one (H, W, 3) uint8 RGB picture for each row.

    Returns:
        The path.

    Raises:
        ValueError: If there is nothing to draw or the columns differ in length.
    """
    lengths = {title: len(pictures) for title, pictures in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(f'Each column needs the same number of pictures, got {lengths}.')
    rows = next(iter(lengths.values()))
    height, width = next(iter(columns.values()))[0].shape[:2]
    figure, axes = picture_grid([height / width] * rows, len(columns), cell=CELL)
    for column, (title, pictures) in enumerate(columns.items()):
        for row, picture in enumerate(pictures):
            show_picture(axes[row, column], picture, '' if row else title)
    return save_figure(figure, path)
