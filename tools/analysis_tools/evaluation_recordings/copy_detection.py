# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Copy detection on Copydays: similarities, neighbors and scores, plain and whitened."""

from typing import Any

import torch
from torch import Tensor

from ibot_mm.functional.copy_detection import find_copies, score_copies
from ibot_mm.functional.pca_whitening import PCAWhitening, fit_pca_whitening

from .recording import Recording

RECORDS = ('originals', 'queries', 'plain.top*', 'plain.ap')
INPUTS = ('originals', 'distractors', 'queries', 'strong_source', 'whitening')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our search and scores give."""
    settings = recording.settings
    database = [recording.tensor(n) for n in ('originals', 'distractors') if n in recording.arrays]
    queries = recording.tensor('queries')
    originals: list[Tensor] = []
    for block, size in zip(settings['blocks'], settings['block_sizes'], strict=True):
        source = recording.tensor('strong_source') if block == 'strong' else torch.arange(size)
        originals += source.split(1)
    values: dict[str, Any] = {}
    kinds: dict[str, PCAWhitening | None] = dict(plain=None)
    if 'whitening' in recording.arrays:
        floor, power = settings['eigenvalue_floor'], settings['whitening_power']
        kinds['whitened'] = fit_pca_whitening(recording.tensor('whitening'), power, floor)
    for kind, whitening in kinds.items():
        if whitening is not None:
            values['whitened.gram'] = (
                whitening.apply(queries) @ whitening.apply(torch.cat(database)).T
            )
        everything = find_copies(database, queries, sum(map(len, database)), whitening)
        values[f'{kind}.similarity'] = everything[0].gather(1, everything[1].argsort(dim=1))
        _, neighbors = find_copies(database, queries, settings['topk'], whitening)
        values[f'{kind}.top{settings["topk"]}'] = neighbors
        precisions = score_copies(neighbors, originals)
        values[f'{kind}.ap'] = precisions
        for block, part in zip(settings['blocks'], precisions.split(settings['block_sizes'])):
            values[f'{kind}.map.{block.replace("/", "_")}'] = part.mean()
    return values
