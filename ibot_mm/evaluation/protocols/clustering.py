# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Unsupervised classification: prototypes of the projection head as clusters (section 4.1)."""

import torch

from ..clustering import clustering_metrics
from ..frozen_splits import FrozenSplits
from .measurement import Measurement, Options

CHUNK = 8192  # images projected at once


def clustering(splits: FrozenSplits, options: Options) -> list[Measurement]:
    """Compare the prototype that each held-out image chooses with its class.

    The choice is the largest logit of [CLS], without centering and temperature.

    Raises:
        ValueError: If there is no projection head.
    """
    if splits.project is None:
        raise ValueError(
            'clustering reads the prototypes of the projection head, and the checkpoint does not '
            'have one: give the full checkpoint of a pre-training, not the backbone alone'
        )
    _, held_out = splits.features()
    with torch.no_grad():
        predictions = torch.cat(
            [
                splits.project(part.to(options.device, torch.float32)).argmax(dim=1).cpu()
                for part in held_out.split(CHUNK)
            ]
        )
    metrics = clustering_metrics(splits.held_out_labels, predictions)
    metrics = {name: 100 * metrics[name] for name in ('acc', 'ari', 'nmi', 'fmi')}
    used = float(len(predictions.unique()))
    return [Measurement(dict(prototypes_used=used), metrics)]
