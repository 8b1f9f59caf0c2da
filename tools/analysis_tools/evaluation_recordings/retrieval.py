# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Retrieval on revisited Oxford and Paris: rankings and their scores by difficulty."""

from typing import Any

import torch

from ibot_mm.functional.retrieval import RelevantImages, rank_database, score_rankings

from .recording import Recording

RECORDS = ('database', 'queries', 'ranks', 'medium.ap')
INPUTS = ('database', 'queries', 'gnd*')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute our rankings and scores."""
    queries = recording.tensor('queries')
    rankings = list(rank_database(recording.tensor('database'), queries))
    relevant = [
        RelevantImages(
            *(recording.arrays[f'gnd{query}.{kind}'].astype(int) for kind in RelevantImages._fields)
        )
        for query in range(len(queries))
    ]
    values: dict[str, Any] = dict(ranks=torch.stack(rankings, dim=1))
    for name, scores in score_rankings(rankings, relevant, recording.settings['k']).items():
        values[f'{name}.map'] = scores.mean_average_precision
        values[f'{name}.ap'] = scores.average_precisions
        values[f'{name}.mean_precision_at_k'] = scores.mean_precisions
        values[f'{name}.precision_at_k'] = scores.precisions
    return values
