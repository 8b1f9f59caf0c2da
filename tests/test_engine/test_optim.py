# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from ibot_mm.engine import WarmupCosine
from ibot_mm.models import IBOTNeck, MaskedVisionTransformer


def adamw(**kwargs):
    return torch.optim.AdamW(
        [dict(params=[nn.Parameter(torch.zeros(2))]),
         dict(params=[nn.Parameter(torch.zeros(2))], weight_decay=0.0)],
        **(dict(lr=2e-3, weight_decay=0.04) | kwargs),
    )  # fmt: skip


def run(scheduler, optimizer, key, num_steps):
    values = []
    for _ in range(num_steps):
        values.append([group[key] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return np.array(values).T


def test_learning_rate_by_iteration():
    optimizer = adamw()
    scheduler = WarmupCosine.build_iter_from_epoch(
        optimizer, param_name='lr', final=1e-6, warmup=2, end=10, epoch_length=5
    )
    values = run(scheduler, optimizer, 'lr', 50)
    i = np.arange(40)
    expected = np.concatenate(
        [np.linspace(0, 2e-3, 10), 1e-6 + (2e-3 - 1e-6) / 2 * (1 + np.cos(np.pi * i / 40))]
    )
    np.testing.assert_allclose(values, np.stack([expected, expected]), rtol=1e-13)


@pytest.mark.parametrize('epochs', [10, 40])
def test_a_warm_up_that_is_a_share_of_the_training(epochs):
    optimizer = adamw()
    scheduler = WarmupCosine.build_iter_from_epoch(
        optimizer, param_name='lr', final=0.0, warmup_share=0.2, end=epochs, epoch_length=5
    )
    values = run(scheduler, optimizer, 'lr', epochs * 5)[0]
    np.testing.assert_allclose(values[: epochs + 1], [*np.linspace(0, 2e-3, epochs), 2e-3])
    assert values[epochs + 2] < 2e-3


def test_weight_decay_leaves_undecayed_groups_at_zero():
    optimizer = adamw()
    scheduler = WarmupCosine(optimizer, 'weight_decay', final_ratio=10, end=20, by_epoch=False)
    decayed, undecayed = run(scheduler, optimizer, 'weight_decay', 20)
    assert not undecayed.any()
    i = np.arange(20)
    np.testing.assert_allclose(decayed, 0.4 - 0.18 * (1 + np.cos(np.pi * i / 20)), rtol=1e-13)


def test_a_warm_up_of_one_step_does_not_stick():
    optimizer = adamw()
    scheduler = WarmupCosine(optimizer, 'lr', final=0.0, warmup=1, end=10, by_epoch=False)
    values = run(scheduler, optimizer, 'lr', 3)[0]
    assert values[0] == 0 and values[1] == 2e-3


def test_resumes_from_its_state():
    optimizer = adamw()
    scheduler = WarmupCosine(optimizer, 'lr', final=0.0, warmup=3, end=10, by_epoch=False)
    whole = run(scheduler, optimizer, 'lr', 10)

    optimizer = adamw()
    scheduler = WarmupCosine(optimizer, 'lr', final=0.0, warmup=3, end=10, by_epoch=False)
    run(scheduler, optimizer, 'lr', 5)
    states = scheduler.state_dict(), optimizer.state_dict()
    optimizer = adamw()
    scheduler = WarmupCosine(optimizer, 'lr', final=0.0, warmup=3, end=10, by_epoch=False)
    optimizer.load_state_dict(states[1])
    scheduler.load_state_dict(states[0])
    np.testing.assert_array_equal(run(scheduler, optimizer, 'lr', 5), whole[:, 5:])


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(final=0.0, warmup=10, end=10), 'warm-up of lr, 10 epochs, does not fit .* 10 epochs'),
        (dict(end=10), 'either `final` or `final_ratio`'),
        (dict(end=10, final=0.0, final_ratio=1.0), 'either `final` or `final_ratio`'),
    ],
)
def test_bad_schedules(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(adamw(), 'lr', **kwargs)


def test_fewer_images_than_one_batch():
    with pytest.raises(ValueError, match='fewer images than one batch'):
        WarmupCosine.build_iter_from_epoch(
            adamw(), param_name='lr', final=0.0, warmup=1, end=3, epoch_length=0
        )


def test_two_groups_as_published():
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    model = nn.ModuleDict(
        dict(
            backbone=MaskedVisionTransformer(arch=arch, img_size=16, patch_size=8),
            neck=IBOTNeck(16, 8, hidden_channels=8, bottleneck_channels=4),
        )
    )
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor='ibot_mm.DecayGroupsConstructor',
            optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.04),
        ),
    )
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, undecayed = (
        {names[id(p)] for p in group['params']} for group in wrapper.optimizer.param_groups
    )
    gain = 'neck.cls_prototypes.parametrizations.weight.original0'
    assert decayed | undecayed == set(names.values()) - {gain}
    assert {'backbone.cls_token', 'backbone.pos_embed', 'backbone.mask_token'} <= decayed
    assert all(name.endswith('weight') for name in decayed - undecayed if 'layers' in name)
    assert all(name.endswith('.bias') or '.ln' in name for name in undecayed)
    assert [g['weight_decay'] for g in wrapper.optimizer.param_groups] == [0.04, 0.0]
