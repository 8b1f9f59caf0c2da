# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weighted k-NN: votes, order of the classes and accuracies."""

from typing import Any

from ibot_mm.functional.accuracy import top_k_accuracy
from ibot_mm.functional.knn import nearest_neighbors, rank_classes, vote

from .recording import Recording

RECORDS = ('train_features', 'test_features', 'k*.votes')
INPUTS = ('train_*', 'test_*')


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our search and votes give."""
    settings = recording.settings
    labels, targets = recording.tensor('train_labels'), recording.tensor('test_labels')
    similarity, indices = nearest_neighbors(
        recording.tensor('train_features'), recording.tensor('test_features'), max(settings['k'])
    )
    neighbors = labels[indices]
    temperature, num_classes = settings['temperature'], settings['num_classes']
    ranked = rank_classes(
        similarity, neighbors, settings['k'], temperature, num_classes, top=num_classes
    )
    values: dict[str, Any] = {}
    for k in settings['k']:
        votes = vote(similarity[:, :k], neighbors[:, :k], temperature, num_classes)
        # Ours are relative to those of the nearest neighbor.
        values[f'k{k}.votes'] = votes * (similarity[:, :1] / temperature).exp()
        values[f'k{k}.order'] = ranked[k]
        for top in (1, 5):
            values[f'k{k}.top{top}'] = top_k_accuracy(ranked[k], targets, top)
    return values
