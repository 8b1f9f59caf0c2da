# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import copy

import pytest
import torch

from ibot_mm.models import IBOTNeck

OPTIONS = {
    'default': dict(),
    'separate': dict(shared_head=False, num_patch_prototypes=24),
    'separate MLPs': dict(shared_head=False, shared_mlp=False, num_patch_prototypes=24),
    'separate MLPs, layer norm': dict(
        shared_head=False, shared_mlp=False, norm_cfg=dict(type='LN')
    ),
    'separate MLPs, batch norm': dict(
        shared_head=False, shared_mlp=False, norm_cfg=dict(type='BN1d')
    ),
    'separate MLPs, no bottleneck': dict(
        shared_head=False, shared_mlp=False, bottleneck_channels=0
    ),
    'layer norm': dict(norm_cfg=dict(type='LN')),
    'batch norm': dict(norm_cfg=dict(type='BN1d')),
    'batch norm, separate': dict(norm_cfg=dict(type='BN1d'), shared_head=False),
    'no bottleneck': dict(bottleneck_channels=0),
    'no bottleneck, separate': dict(bottleneck_channels=0, shared_head=False),
    'one layer': dict(num_layers=1),
    'one layer, no bottleneck': dict(num_layers=1, bottleneck_channels=0),
    'four layers, relu': dict(num_layers=4, act_cfg=dict(type='ReLU')),
    'free gain': dict(norm_last_layer=False),
}


def build(**kwargs):
    torch.manual_seed(0)
    return IBOTNeck(
        **(
            dict(in_channels=16, num_prototypes=20, hidden_channels=12, bottleneck_channels=8)
            | kwargs
        )
    ).double()


@pytest.fixture(params=OPTIONS.values(), ids=OPTIONS.keys())
def options(request):
    return request.param


def test_logits_of_selected_tokens_are_those_of_the_full_pass(options):
    """Values and gradients; also the running statistics of a batch norm."""
    full, selected = build(**options), build(**options)
    tokens = torch.randn(4, 1 + 9, 16, dtype=torch.float64)
    masks = torch.rand(4, 9) < 0.4

    cls, patch = full(tokens)
    expected = (cls, patch[masks])
    assert full.norm_over_tokens == (options.get('norm_cfg') == dict(type='BN1d'))
    if full.norm_over_tokens:
        projections = selected.project(tokens, 1)
        actual = selected.logits(projections[:, 0], projections[:, 1:][masks])
    else:
        chosen = (tokens[:, 0], tokens[:, 1:][masks])
        projections = selected.project(torch.cat(chosen), 4)
        actual = selected.logits(*projections.split([4, len(patch[masks])]))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    for logits in (expected, actual):
        sum(x.square().sum() for x in logits).backward()
    for (name, p), q in zip(full.named_parameters(), selected.parameters()):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(dict(selected.named_buffers()), dict(full.named_buffers()))


def test_separate_mlps_are_two_necks():
    """Values and gradients; only what is separate has new names."""
    neck = build(**OPTIONS['separate MLPs, layer norm'])
    single = build(**OPTIONS['separate'] | dict(norm_cfg=dict(type='LN')))
    own = set(dict(neck.named_parameters())) - set(dict(single.named_parameters()))
    assert {name.partition('.')[0] for name in own} == {'patch_layers', 'patch_norm'}
    of_cls, of_patches = (build(norm_cfg=dict(type='LN')) for _ in range(2))
    state = neck.state_dict()
    of_cls.load_state_dict({n: t for n, t in state.items() if not n.startswith('patch_')})
    of_patches.load_state_dict({
        n.replace('patch_prototypes', 'cls_prototypes').removeprefix('patch_'): t
        for n, t in state.items() if n.startswith('patch_')
    })  # fmt: skip
    tokens = torch.randn(4, 1 + 9, 16, dtype=torch.float64)
    cls, patches = neck(tokens)
    torch.testing.assert_close(cls, of_cls(tokens)[0])
    torch.testing.assert_close(patches, of_patches(tokens)[1])
    patches.square().sum().backward()
    assert not neck.layers[0].weight.grad.any() and not neck.norm.weight.grad.any()
    assert neck.patch_layers[0].weight.grad.abs().sum() > 0


def test_no_patch(options):
    neck = build(**options)
    projections = neck.project(torch.randn(4, 16, dtype=torch.float64))
    cls, patch = neck.logits(projections, projections[:0])
    assert cls.shape == (4, 20) and patch.shape == (0, neck.num_patch_prototypes)


def test_bf16_logits_are_products_in_float32():
    neck = build(num_prototypes=256).float()
    projections = neck.project(torch.randn(64, 16))
    with torch.autocast('cpu', torch.bfloat16):
        mixed = neck.project(torch.randn(64, 16))
        assert mixed.dtype == torch.float32
        cls, patch = neck.logits(projections, mixed)
    assert cls.dtype == patch.dtype == torch.float32
    torch.testing.assert_close(cls, neck.logits(projections)[0], rtol=0, atol=0)


def test_shared_prototypes_are_normalized_once(options):
    neck, calls = build(**options), []
    for module in neck.modules():
        if type(module).__name__ == '_WeightNorm':
            module.register_forward_hook(lambda *args: calls.append(1))
    projections = neck.project(torch.randn(4, 16, dtype=torch.float64))
    neck.logits(projections, projections, projections)
    assert len(calls) == neck.normalize * (1 if neck.shared_head else 2)


def test_mean_of_logits_is_logits_of_the_mean(options):
    neck = build(**options)
    projections = neck.project(torch.randn(4, 9, 16, dtype=torch.float64))
    torch.testing.assert_close(
        neck.logits(projections, projections)[1].mean(dim=(0, 1)),
        neck.logits(projections, projections.mean(dim=(0, 1)))[1],
    )


def test_logits_are_cosines_with_unit_gain():
    neck = build()
    cls, patch = neck(torch.randn(4, 10, 16, dtype=torch.float64) * 100)
    assert max(cls.abs().max(), patch.abs().max()) <= 1 + 1e-12
    assert not neck.cls_prototypes.parametrizations.weight.original0.requires_grad
    assert build(
        norm_last_layer=False
    ).cls_prototypes.parametrizations.weight.original0.requires_grad


def test_hidden_layers_share_one_norm():
    neck = build(norm_cfg=dict(type='BN1d'), num_layers=4)
    neck(torch.randn(4, 10, 16, dtype=torch.float64))
    assert neck.norm.num_batches_tracked == 3


def test_prototypes_to_freeze():
    assert len(build().prototype_parameters()) == 2
    assert len(build(shared_head=False).prototype_parameters()) == 4
    assert build(bottleneck_channels=0).prototype_parameters() == []


def test_deep_copy_is_independent():
    neck = build()
    twin = copy.deepcopy(neck)
    with torch.no_grad():
        twin.cls_prototypes.parametrizations.weight.original1.add_(1)
    tokens = torch.randn(2, 3, 16, dtype=torch.float64)
    assert not torch.allclose(neck(tokens)[0], twin(tokens)[0])


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(num_patch_prototypes=7), 'Shared prototypes cannot be 20 .* and 7'),
        (dict(num_layers=0), 'num_layers >= 1'),
        (dict(shared_mlp=False), 'shared_mlp=False gives patches .* set shared_head=False'),
    ],
)
def test_bad_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_precise_computes_in_float32_under_autocast(options, dtype):
    """Values are those without autocast; else they are not, but for prototypes under bf16."""
    necks = [build(**options, precise=precise).float() for precise in (True, False)]
    tokens = torch.randn(4, 1 + 9, 16)
    expected = necks[0](tokens)
    with torch.autocast('cpu', dtype):
        precise, rough = (neck(tokens) for neck in necks)
    torch.testing.assert_close(precise, expected, rtol=0, atol=0)
    prototypes_only = not len(necks[0].layers) and dtype == torch.bfloat16
    assert torch.equal(rough[0], expected[0]) == prototypes_only
    assert {logits.dtype for logits in precise} == {torch.float32}


def test_precise_survives_what_overflows_in_fp16():
    necks = [build(precise=precise).float() for precise in (True, False)]
    tokens = torch.full((2, 1 + 3, 16), 6e4)
    for neck in necks:
        neck.layers[0].weight.data.fill_(0.1)
    with torch.autocast('cpu', torch.float16):
        precise, rough = (neck(tokens)[0] for neck in necks)
    assert precise.isfinite().all() and not rough.isfinite().all()


@pytest.mark.parametrize('precise', [True, False])
def test_projections_are_float32_under_autocast(options, precise):
    with torch.autocast('cpu', torch.bfloat16):
        projections = build(**options, precise=precise).float().project(torch.randn(3, 16))
    assert projections.dtype == torch.float32
