# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A layer where only some outputs are wanted, beside the whole layer."""

import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ibot_mm.models.backbones.attention import EncoderLayer, attend, attend_first

IMAGES, TOKENS, CHANNELS, HEADS = 3, 7, 8, 2
OPTIONS = {
    'plain': {},
    'no bias': dict(qkv_bias=False),
    'layer scale': dict(layer_scale_init_value=0.1),
    'dropout, in evaluation': dict(attn_drop_rate=0.5),
}


def build(**options):
    torch.manual_seed(0)
    layer = TransformerEncoderLayer(CHANNELS, HEADS, 2 * CHANNELS, **options).double()
    EncoderLayer.adopt(layer)
    for parameter in layer.parameters():  # biases start at 0
        parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return layer.eval(), torch.randn(IMAGES, TOKENS, CHANNELS, dtype=torch.float64)


def derive(layer, tokens, function):
    tokens = tokens.clone().requires_grad_()
    output = function(tokens)
    inputs = [tokens, *layer.parameters()]
    return output, *torch.autograd.grad((output * output.detach().cos()).sum(), inputs)


def test_hooks_on_the_feed_forward_network_fire():
    """Also where the last layer runs for some tokens only."""
    layer, tokens = build()
    shapes = []
    layer.ffn.register_forward_hook(lambda *args: shapes.append(tuple(args[-1].shape)))
    layer(tokens, attend)
    layer.forward_rows(tokens, torch.tensor([0, TOKENS, 2 * TOKENS, 1]))
    assert shapes == [(IMAGES, TOKENS, CHANNELS), (4, CHANNELS)]


@pytest.mark.parametrize('patches', [(), (1, 2, 16)], ids=['[CLS] only', 'with patches'])
@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS.keys())
def test_rows_are_those_of_the_whole_layer(options, patches):
    layer, tokens = build(**options)
    rows = torch.tensor([0, TOKENS, 2 * TOKENS, *patches])
    chosen = derive(layer, tokens, lambda x: layer.forward_rows(x, rows))
    whole = derive(layer, tokens, lambda x: layer(x).flatten(0, 1)[rows])
    torch.testing.assert_close(chosen, whole, rtol=1e-10, atol=1e-12)


def test_first_tokens_need_no_keys_and_values():
    module, tokens = build()[0].attn, torch.randn(IMAGES, 1000, CHANNELS).double()
    operations = []
    for function in (attend, attend_first):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            function(module, tokens)
        operations.append(counter.get_total_flops())
    # In place of 2 * D**2 a token twice: 4 * D a head.
    assert operations[1] < 1.1 * IMAGES * 1000 * 4 * CHANNELS * HEADS < 0.01 * operations[0]


class Adapted(torch.nn.Module):
    """Stands where a linear layer was, as low-rank adapters do."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x) + 1


@pytest.mark.parametrize('name', ['an adapter', 'dropout in training'])
def test_what_is_not_linear_runs_as_it_is(name, monkeypatch):
    layer, tokens = build(attn_drop_rate=0.5 if name == 'dropout in training' else 0.0)
    if name == 'an adapter':
        layer.attn.qkv = Adapted(layer.attn.qkv)
    else:
        layer.attn.train()
    rows = torch.arange(IMAGES) * TOKENS
    torch.manual_seed(1)
    chosen = layer.forward_rows(tokens, rows)
    torch.manual_seed(1)
    torch.testing.assert_close(chosen, layer(tokens).flatten(0, 1)[rows], rtol=1e-12, atol=1e-12)
