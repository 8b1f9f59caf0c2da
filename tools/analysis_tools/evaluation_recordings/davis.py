# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Video object segmentation on DAVIS 2017: propagated labels, masks, and their scores."""

from typing import Any

import numpy as np
import torch

from ibot_mm.functional.label_propagation import LabelPropagation, enlarge_labels, labels_on_grid
from ibot_mm.functional.video_scores import mean_recall_decay, score_frame

from .recording import Recording

RECORDS = ('tokens', 'first_mask', 'soft', 'masks')
INPUTS = ('tokens', 'first_mask', 'annotations')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our propagation and scores give."""
    settings = recording.settings
    grid, first_mask = tuple(settings['grid']), recording.arrays['first_mask']
    labels = labels_on_grid(first_mask, grid)
    first, *others = recording.tensor('tokens')[:, 1:].unflatten(1, grid)
    video = LabelPropagation(
        first,
        labels,
        settings['n_last_frames'],
        settings['size_mask_neighborhood'],
        settings['topk'],
        settings['temperature'],
    )
    soft = [video.step(tokens) for tokens in others]
    size = settings['input_size'], settings['ori']
    masks = np.stack([first_mask, *(enlarge_labels(predicted, *size) for predicted in soft)])
    values: dict[str, Any] = dict(first_soft=labels[None], soft=torch.stack(soft), masks=masks)
    # The annotations are scored apart from the propagation: first and last frame are left out.
    annotations = recording.arrays['annotations']
    scores = np.stack(
        [
            score_frame(mask, truth, settings['objects'], settings['boundary_threshold'])
            for mask, truth in zip(masks[1:-1], annotations[1:-1], strict=True)
        ],
        axis=-1,
    )  # (2, objects, frames)
    for name, of_objects in zip('JF', scores):
        values[name] = of_objects
        values[f'{name}_mean_recall_decay'] = np.array([mean_recall_decay(o) for o in of_objects])
    values['JF_mean'] = scores.mean()
    return values
