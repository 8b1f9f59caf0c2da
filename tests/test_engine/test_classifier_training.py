# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Optimizer, constructor, schedules and hooks of classifiers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS
from torch import nn

from ibot_mm.engine.hooks import CheckClassesHook, KeepBestHeadHook
from ibot_mm.engine.optim import DelayedWarmupCosine, SweepConstructor, SweepOptimizer
from ibot_mm.functional.linear_sweep import sweep_cross_entropy
from ibot_mm.functional.schedules import warmup_cosine
from ibot_mm.models import LinearSweepHead

OPTIMIZER = dict(optimizer=dict(type='ibot_mm.SweepOptimizer', lr=0.5, momentum=0.9))


class Classifier(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.backbone, self.head = nn.Linear(2, 2), head


def sweep_and_data():
    torch.manual_seed(0)
    head = LinearSweepHead(
        3, 4, learning_rates=(0.1, 3.0), weight_decays=(0.0, 0.01), optimizers=('sgd', 'lars')
    ).double()
    return head, torch.randn(8, 4).double(), torch.randint(3, (8,))


def test_sgd_of_a_sweep_is_that_of_torch():
    head, features, labels = sweep_and_data()
    wrapper = SweepConstructor(OPTIMIZER)(Classifier(head))
    singles = [
        (setting, head.weight[i].detach().clone(), head.bias[i].detach().clone())
        for i, setting in enumerate(head.sweep)
        if not setting['lars']
    ]
    optimizers = []
    for setting, weight, bias in singles:
        decay = setting['weight_decay']
        parameters = [weight.requires_grad_(), bias.requires_grad_()]
        optimizers.append(
            torch.optim.SGD(parameters, lr=0.5 * setting['lr'], momentum=0.9, weight_decay=decay)
        )
    for _ in range(4):
        wrapper.update_params(sweep_cross_entropy(head.scores(features), labels).mean(0).sum())
        for (_, weight, bias), optimizer in zip(singles, optimizers):
            optimizer.zero_grad()
            F.cross_entropy(F.linear(features, weight, bias), labels).backward()
            optimizer.step()
    for index, (_, weight, bias) in enumerate(singles):
        torch.testing.assert_close(head.weight[index], weight, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(head.bias[index], bias, rtol=1e-12, atol=1e-14)


def test_resumed_sweep_goes_on_as_it_was():
    ends = []
    for stop in (None, 2):
        head, features, labels = sweep_and_data()
        wrapper = SweepConstructor(OPTIMIZER)(Classifier(head))
        for step in range(4):
            if step == stop:
                state = wrapper.state_dict()
                wrapper = SweepConstructor(OPTIMIZER)(Classifier(head))
                wrapper.load_state_dict(state)
            wrapper.update_params(sweep_cross_entropy(head.scores(features), labels).mean(0).sum())
        ends.append(head.weight.detach().clone())
    assert torch.equal(*ends)


def test_only_the_head_is_trained():
    model = Classifier(LinearSweepHead(3, 2))
    groups = SweepConstructor(OPTIMIZER)(model).optimizer.param_groups
    assert {id(p) for g in groups for p in g['params']} == {id(p) for p in model.head.parameters()}


def test_sweep_needs_its_head():
    with pytest.raises(ValueError, match='trains the sweep of a head'):
        SweepConstructor(OPTIMIZER)(Classifier(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match='sweep of 0 classifiers'):
        SweepOptimizer([nn.Parameter(torch.zeros(2, 2))])


def test_undecayed_parameters_by_name():
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.pos_embed = nn.Parameter(torch.zeros(1, 2, 3))
    model.backbone.weight = nn.Parameter(torch.zeros(2, 3))
    model.backbone.get_layer_depth = lambda name, prefix: (0, 2)
    cfg = dict(optimizer=dict(type='SGD', lr=1.0, weight_decay=0.1))

    def decays(**options):
        build = OPTIM_WRAPPER_CONSTRUCTORS.get('ibot_mm.LayerDecayConstructor')
        groups = build(cfg, dict(layer_decay_rate=0.5, **options))(model).param_groups
        return {id(p): g['weight_decay'] for g in groups for p in g['params']}

    position = id(model.backbone.pos_embed)
    assert decays()[position] == 0.1
    assert decays(undecayed=('pos_embed',))[position] == 0.0
    with pytest.raises(ValueError, match='nothing else but undecayed'):
        decays(norm_decay_mult=0.0)


def values(schedule, optimizer, steps):
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        schedule.step()
    return rates


def test_schedule_by_update_is_the_same_for_all_iterations_of_one():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = PARAM_SCHEDULERS.build(
        dict(type='ibot_mm.WarmupCosineByUpdate', optimizer=optimizer, param_name='lr',
             final_ratio=0.1, warmup=4, end=12, by_epoch=False, accumulative_counts=2)
    )  # fmt: skip
    expected = [warmup_cosine(1.0, 0.1, step, 6, 2) for step in range(6)]
    assert values(schedule, optimizer, 12) == pytest.approx(np.repeat(expected, 2).tolist())


def test_transfer_schedule_refuses_a_training_within_its_warmup():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match='does not fit a schedule of 5 epochs'):
        DelayedWarmupCosine(optimizer, warmup=5, end=5)


def runner(train, val, num_classes, names=(None, None)):
    def dataset(labels, classes):
        def get_gt_labels():
            if labels is None:
                raise KeyError('gt_label')
            return np.array(labels)

        return SimpleNamespace(get_gt_labels=get_gt_labels, CLASSES=classes)

    model = nn.Module()
    model.head = SimpleNamespace(num_classes=num_classes)
    loaders = [SimpleNamespace(dataset=dataset(*each)) for each in zip((train, val), names)]
    return SimpleNamespace(
        model=model,
        train_dataloader=loaders[0],
        val_dataloader=loaders[1],
        val_loop=SimpleNamespace(dataloader=loaders[1]),
    )


@pytest.mark.parametrize(
    'arguments, message',
    [
        (([0, 0], [0, 1], 2), 'All images of train_dataloader have the label 0'),
        ((None, [0, 1], 2), 'The images of train_dataloader have no labels'),
        (([], [0, 1], 2), 'train_dataloader has no image'),
        ((list(range(10)), list(range(10)), 1000), r'10 classes.*num_classes is 1000'),
        (([0, 1, 2], [0, 1], 2), 'has the label 2'),
        (([0, 1, 2], [0, 1], 3), 'val_dataloader has no image of 1 of the 3 classes'),
        (([0, 1], [0, 1, 2], 3), 'train_dataloader has no image of 1 of the 3 classes'),
        (([0, 1], [0, 1], 2, (('a', 'b'), ('a', 'c'))), 'name their classes differently'),
    ],
)
def test_labels_are_checked_before_training(arguments, message):
    with pytest.raises(ValueError, match=message):
        CheckClassesHook().before_train(runner(*arguments))


def test_labels_that_fit_pass():
    CheckClassesHook().before_train(runner([0, 1, 2], [2, 1, 0], 3, (('a',) * 3, ('a',) * 3)))
    CheckClassesHook(allow_missing=True).before_train(runner([0, 1], [0, 2], 10))


def test_head_is_told_which_classifier_is_best():
    model = Classifier(LinearSweepHead(3, 2))
    KeepBestHeadHook().after_val_epoch(SimpleNamespace(model=model), {'sweep/best_head': 7})
    assert model.head.best_head == 7
