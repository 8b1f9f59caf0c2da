# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""All crops in one pass, beside a pass for each size."""

import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from ibot_mm.models import IBOT

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
VIT = dict(type='ibot_mm.MaskedVisionTransformer', arch=ARCH, img_size=32, patch_size=8)
NECK = dict(
    type='ibot_mm.IBOTNeck', in_channels=16, num_prototypes=20, hidden_channels=12,
    bottleneck_channels=8,
)  # fmt: skip
HEAD = dict(type='ibot_mm.IBOTHead', num_prototypes=20)
SWIGLU = dict(layer_cfgs=dict(ffn_type='swiglu_fused'))
OPTIONS = {
    'default': {},
    'registers': dict(backbone=dict(num_registers=3)),
    'registers, rotary': dict(backbone=dict(num_registers=2, rotary=True, pre_norm=True)),
    'layer scale, no bias': dict(backbone=dict(layer_scale_init_value=0.1, qkv_bias=False)),
    'SwiGLU': dict(backbone=SWIGLU),
    'activation checkpointing': dict(backbone=dict(with_cp=True)),
    'frozen': dict(backbone=dict(frozen_stages=1)),
    'batch norm': dict(neck=dict(norm_cfg=dict(type='BN1d'))),
    'regularizers': dict(
        regularizers=dict(koleo=dict(type='ibot_mm.KoLeoLoss')), head=dict(visible_weight=0.5)
    ),
}


def build(pack_crops, backbone=dict(), neck=dict(), head=dict(), **options):
    torch.manual_seed(0)
    model = IBOT(VIT | backbone, NECK | neck, HEAD | head, pack_crops=pack_crops, **options)
    model.init_weights()
    for parameter in model.parameters():  # the start is too regular: give all terms a say
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.double().train()


def make_inputs(local_crops=2, masked=0.4, dtype=torch.float64, seed=1):
    torch.manual_seed(seed)
    masks = torch.rand(4, 2, 4, 4) < masked
    inputs = dict(global_crops=torch.randn(4, 2, 3, 32, 32, dtype=dtype), masks=masks)
    if local_crops:
        inputs['local_crops'] = torch.randn(4, local_crops, 3, 16, 24, dtype=dtype)
    return inputs


def train(model, *batches):
    """Losses of each batch and the gradients that they accumulate."""
    losses = [model.loss(dict(inputs)) for inputs in batches]
    for of_batch in losses:
        sum(of_batch.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same_training(options, *batches):
    one_pass, apart = (train(build(pack, **options), *batches) for pack in (True, False))
    torch.testing.assert_close(one_pass, apart, rtol=1e-10, atol=1e-12)
    return one_pass


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
def test_losses_and_gradients_are_those_of_a_pass_for_each_size(options):
    """Over two accumulated batches, of other masks."""
    batches = make_inputs(), make_inputs(seed=2, masked=0.2)
    _, gradients = assert_same_training(options, *batches)
    assert ('backbone.mask_token' in gradients) == ('frozen_stages' not in str(options))
    assert 'backbone.layers.1.attn.qkv.weight' in gradients


@pytest.mark.parametrize('local_crops', [0, 2, 6])
@pytest.mark.parametrize('masked', [0.0, 0.4, 1.0])
def test_any_number_of_local_crops_and_masked_patches(local_crops, masked):
    assert_same_training({}, make_inputs(local_crops, masked))


def test_the_pass_is_one():
    """Each linear layer but those of the last layer runs once, on the tokens of all."""
    calls = []
    model = build(True)
    for layer in model.backbone.layers:
        layer.ffn.register_forward_hook(lambda module, inputs, _: calls.append(len(inputs[0])))
    inputs = make_inputs(local_crops=2)
    model.loss(inputs)
    assert calls[:2] == [2 * 4 * 17 + 2 * 4 * 7] * 2
    assert calls[2:] == [2 * 4 + inputs['masks'].sum(), 2 * 4]


def test_operations_are_the_same():
    counts = []
    for pack in (True, False):
        with FlopCounterMode(display=False) as counter:
            train(build(pack).float(), make_inputs(dtype=torch.float32))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1]


def test_tokens_of_many_sizes():
    """Also all tokens of one and some of another; the last layer is wanted, whichever else."""
    torch.manual_seed(0)
    model = MODELS.build(VIT | dict(num_registers=2, out_indices=[0, 2])).double().eval()
    sizes = [(32, 32), (16, 40), (8, 8)]
    images = [torch.randn(3, 3, *size, dtype=torch.float64) for size in sizes]
    masks = [torch.rand(3, 4, 4) < 0.5, None, None]
    patches = [torch.tensor([0, 47]), None, torch.tensor([], dtype=torch.long)]
    together = model(images, masks, patches)
    apart = [model(*of_size)[-1] for of_size in zip(images, masks, patches)]
    torch.testing.assert_close(list(together), apart, rtol=1e-12, atol=1e-12)
    assert [tuple(tokens.shape) for tokens in together] == [(5, 16), (3, 11, 16), (3, 16)]


def test_drop_path_draws_other_subsets_only():
    """The same parameters train, in other steps with other images; checkpointing redraws them."""
    options = dict(drop_path_rate=0.5)
    inputs = make_inputs(6)
    model, checkpointed = (
        build(True, backbone=options | dict(with_cp=with_cp)) for with_cp in (False, True)
    )
    torch.manual_seed(2)
    (first, second), gradients = train(model, inputs, inputs)
    torch.manual_seed(2)
    torch.testing.assert_close(train(checkpointed, inputs, inputs)[1], gradients)
    assert first['loss_cls'] != second['loss_cls']
    assert gradients.keys() == train(build(False), inputs)[1].keys()
    assert all(gradient.any() for gradient in gradients.values())


def test_mixed_precision():
    model, inputs = build(True).float(), make_inputs(dtype=torch.float32)
    expected = copy.deepcopy(model).loss(dict(inputs))
    with torch.autocast('cpu', torch.bfloat16):
        losses = model.loss(inputs)
    torch.testing.assert_close(losses, expected, rtol=0.02, atol=0)
    sum(losses.values()).backward()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize('rate', [0.0, 0.5])
def test_compiled(rate):
    """One graph of the student for any number of masked patches; it drops paths as well."""
    torch._dynamo.reset()
    counters.clear()
    plain = build(True, backbone=dict(drop_path_rate=rate))
    compiled = copy.deepcopy(plain)
    compiled.backbone.compile(backend='eager', fullgraph=True)
    graphs = []
    for masked in (0.1, 0.3, 0.5):
        inputs = make_inputs(masked=masked)
        losses = [model.loss(dict(inputs)) for model in (plain, compiled)]
        if not rate:
            torch.testing.assert_close(*losses, rtol=1e-10, atol=0)
        assert all(loss.isfinite() for loss in losses[1].values())
        graphs.append(counters['stats']['unique_graphs'])
    assert graphs == [1, 2, 2]


@pytest.mark.parametrize(
    'backbone',
    [
        dict(
            type='ibot_mm.MaskedSwinTransformer',
            arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]),
            img_size=32,
        ),
        dict(
            type='ibot_mm.TimmVisionTransformer',
            model_name='vit_tiny_patch16_224',
            embed_dim=16, depth=1, num_heads=2, img_size=32,
        ),
    ],
    ids=lambda backbone: backbone['type'],
)  # fmt: skip
def test_backbones_that_cannot(backbone):
    with pytest.raises(ValueError, match='pack_crops=True: .* one size at a time. Leave it out'):
        IBOT(backbone, NECK, HEAD, pack_crops=True)


def test_networks_whose_layers_need_one_grid():
    model = MODELS.build(
        dict(type='ibot_mm.WindowedVisionTransformer', arch=ARCH, img_size=32, patch_size=8)
    )
    with pytest.raises(TypeError, match='WindowedVisionTransformer takes images of one size'):
        model([torch.randn(1, 3, 32, 32)], [None], [None])
