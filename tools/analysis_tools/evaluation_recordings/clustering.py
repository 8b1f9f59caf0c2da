# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Unsupervised classification: agreement of prototypes and classes."""

from typing import Any

from ibot_mm.evaluation.clustering import clustering_metrics

from .recording import Recording

RECORDS = ('labels', '*.predictions', '*.acc_true_hungarian')
# The published accuracy is not an output of ours: it is wrong where the first cluster is not used.
INPUTS = ('labels', '*.predictions', '*.acc')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our metrics give for each case."""
    values: dict[str, Any] = {}
    for case in recording.settings['cases']:
        metrics = clustering_metrics(
            recording.tensor('labels'), recording.tensor(f'{case}.predictions')
        )
        values |= {f'{case}.{name}': metrics[name] for name in ('nmi', 'ari', 'fmi')}
        values[f'{case}.acc_true_hungarian'] = metrics['acc']
    return values
