# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every protocol on features that anyone could classify, and on those nobody could."""

import math

import pytest
import torch

from ibot_mm.evaluation import (
    PROTOCOLS,
    DataError,
    FeatureLayout,
    FeatureSettings,
    FrozenSplits,
    Options,
    best_of,
    check_protocols,
    make_table,
    summary_rows,
)
from ibot_mm.evaluation.protocols.few_labels import sample_rows
from ibot_mm.visualization import draw_evaluation

OPTIONS = Options(ks=(1, 5), epochs=20, learning_rates=(0.1, 1.0, 1e8), shares=(0.2,))


def make_splits(separable=True, project=True):
    """Four classes, features of two blocks of which only the last is of use."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(20)
    scale = 10.0 if separable else 0.0

    def features():
        noise = torch.randn(80, 16, generator=generator)
        noise[:, 8:12] += scale * torch.eye(4)[labels]
        return noise

    return FrozenSplits(
        features(),
        labels,
        features(),
        labels,
        FeatureLayout((8, 8)),
        num_classes=4,
        linear=FeatureSettings(2),
        project=(lambda cls: cls.flip(1)) if project else None,
    )


@pytest.mark.parametrize('protocol', PROTOCOLS)
def test_separable_features_are_classified(protocol):
    found = PROTOCOLS[protocol](make_splits(), OPTIONS)
    if protocol == 'few_labels':
        assert {m.setting['protocol'] for m in found} == {'knn', 'linear', 'logistic'}
        assert {m.setting['images'] for m in found} == {16}
    assert best_of(found).main > 99
    assert not any(math.isnan(m.main) for m in found)  # that of a rate that diverges included


@pytest.mark.parametrize('protocol', ['knn', 'linear', 'logistic'])
def test_noise_is_not_classified(protocol):
    found = PROTOCOLS[protocol](make_splits(separable=False), OPTIONS)
    assert best_of(found).main < 50


def test_results_do_not_depend_on_the_run():
    runs = [PROTOCOLS['few_labels'](make_splits(), OPTIONS) for _ in range(2)]
    assert runs[0] == runs[1]


def test_few_labels_are_sampled_class_by_class():
    labels = torch.tensor([0] * 100 + [1] * 30 + [2] * 3)
    rows = sample_rows(labels, 0.1, seed=0)
    assert torch.bincount(labels[rows]).tolist() == [10, 3, 1]
    assert torch.equal(rows, sample_rows(labels, 0.1, seed=0))
    assert not torch.equal(rows, sample_rows(labels, 0.1, seed=1))
    with pytest.raises(ValueError, match='above 0 and up to 1, got 0'):
        sample_rows(labels, 0, seed=0)


def test_clustering_without_projection_head_is_refused():
    with pytest.raises(ValueError, match='the checkpoint does not have one'):
        PROTOCOLS['clustering'](make_splits(project=False), OPTIONS)


def test_more_neighbors_than_images_are_refused():
    with pytest.raises(DataError, match='80 training images, fewer than k=100'):
        PROTOCOLS['knn'](make_splits(), Options(ks=(100,)))


@pytest.mark.parametrize(
    'protocols, changes, message',
    [
        (['knn', 'cnn'], {}, "unknown protocol 'cnn': choose from knn, linear"),
        (['knn'], dict(num_train=199), '199 training images, fewer than k=200'),
        (['clustering'], dict(with_head=False), 'give the full checkpoint'),
    ],
)
def test_what_cannot_be_measured_is_refused_first(protocols, changes, message):
    with pytest.raises(ValueError, match=message):
        check_protocols(protocols, Options(), **(dict(num_train=1000, with_head=True) | changes))


def test_table_and_figure_have_published_numbers_for_imagenet_only():
    found = {name: PROTOCOLS[name](make_splits(), OPTIONS) for name in ('knn', 'clustering')}
    for num_classes, expected in ((1000, [75.2, 43.4, 32.8, 78.6, 35.6]), (4, 5 * [None])):
        rows = [
            row
            for name, measurements in found.items()
            for row in summary_rows(name, measurements, 'vit_small_patch16', num_classes)
        ]
        assert [row['published'] for row in rows] == expected
        assert [row['metric'] for row in rows] == ['top1', 'acc', 'ari', 'nmi', 'fmi']
        titles = [column.header for column in make_table(dict(teacher=rows), 'title').columns]
        assert ('published, ImageNet-1K' in titles) == (num_classes == 1000)
    points = [dict(setting=m.setting, metrics=m.metrics) for m in found['knn']]
    figure = draw_evaluation(dict(teacher=dict(knn=points)), dict(knn=75.2))
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [2, 2]
    with pytest.raises(ValueError, match='nothing to draw'):
        draw_evaluation(dict(teacher=dict(clustering=[])))
