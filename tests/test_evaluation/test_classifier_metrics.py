# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Accuracy of a sweep, and agreement of prototypes and classes."""

import pytest
import torch

from ibot_mm.evaluation import ClusteringAccuracy, SweepAccuracy

SWEEP = [dict(lr=0.1, weight_decay=0.0, lars=False), dict(lr=1.0, weight_decay=1e-6, lars=True)]


def prediction(label, first, second, losses=(1.0, 2.0)):
    """Ranked classes of two classifiers."""
    return dict(
        gt_label=torch.tensor([label]),
        sweep_ranked=torch.tensor([first, second]),
        sweep_loss=torch.tensor(losses),
        sweep=SWEEP,
    )


def test_the_best_classifier_counts():
    metric = SweepAccuracy()
    right, wrong = [0, 1, 2, 3, 4], [1, 0, 2, 3, 4]
    metric.process(None, [prediction(0, right, right), prediction(0, wrong, right)])
    metric.process(None, [prediction(5, wrong, wrong, (1.0, 8.0))])
    values = metric.evaluate(3)
    assert values == {
        'sweep/top1': pytest.approx(200 / 3),
        'sweep/top5': pytest.approx(200 / 3),
        'sweep/loss': pytest.approx(4.0),
        'sweep/best_head': 1,
    }
    assert metric.top1 == pytest.approx([100 / 3, 200 / 3])


def test_top5_needs_five_classes():
    metric = SweepAccuracy()
    metric.process(None, [prediction(0, [0, 1], [1, 0])])
    assert 'sweep/top5' not in metric.evaluate(1)


def test_other_heads_are_an_error():
    with pytest.raises(KeyError, match='LinearSweepHead'):
        SweepAccuracy().process(None, [dict(pred_label=0, gt_label=0)])


def test_queries_count_once_and_the_bank_does_not():
    metric = ClusteringAccuracy()
    pairs = [(0, 5), (0, 5), (1, 3), (1, 5)]
    samples = [
        dict(gt_label=torch.tensor([y]), prototype=torch.tensor(c), knn_index=i, knn_split='query')
        for i, (y, c) in enumerate(pairs)
    ]
    bank = dict(gt_label=torch.tensor([2]), knn_index=9, knn_split='bank')
    metric.process(None, [*samples, samples[3], bank])
    assert metric.evaluate(5)['clustering/acc'] == pytest.approx(75)


def test_clustering_needs_prototypes_and_images():
    with pytest.raises(KeyError, match='names the prototype'):
        ClusteringAccuracy().process(None, [dict(gt_label=torch.tensor([0]))])
    with pytest.raises(ValueError, match='validation set is empty'):
        ClusteringAccuracy().evaluate(0)
