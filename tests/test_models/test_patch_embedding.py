# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Patch embedding as a product, beside mmcv's convolution."""

import pytest
import torch
from mmcv.cnn.bricks.transformer import PatchEmbed

from ibot_mm.models.backbones.patch_embedding import embed_patches

CASES = {
    'plain': dict(padding=0),
    'norm, no bias': dict(padding=0, norm_cfg=dict(type='LN'), bias=False),
    'oblong': dict(padding=0, kernel_size=(4, 2), stride=(4, 2)),
    'overlapping': dict(padding=0, stride=2),
    'padding': dict(padding=1),
    'padding of the corner': dict(padding='corner'),
    'dilation': dict(padding=0, dilation=2),
}


@pytest.mark.parametrize('options', CASES.values(), ids=CASES.keys())
def test_same_as_mmcvs(options):
    torch.manual_seed(0)
    embedding = PatchEmbed(embed_dims=5, **dict(dict(kernel_size=4, stride=4), **options)).double()
    images = torch.randn(2, 3, 14, 17, dtype=torch.float64)
    results = []
    for tokens, grid in (embed_patches(embedding, images), embedding(images)):
        weight = tokens.detach().cos()
        gradients = torch.autograd.grad((tokens * weight).sum(), list(embedding.parameters()))
        results.append((tokens, *gradients))
        assert tokens.shape == (2, grid[0] * grid[1], 5)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_tokens_are_channels_last_as_they_come():
    embedding = PatchEmbed(embed_dims=5, kernel_size=4, stride=4, padding=0)
    images = torch.randn(2, 3, 16, 16)
    assert embed_patches(embedding, images)[0].is_contiguous()
    assert not embedding(images)[0].is_contiguous()


@pytest.mark.parametrize('part', ['', 'projection'], ids=['embedding', 'projection'])
@pytest.mark.parametrize('before', [False, True], ids=['after', 'before'])
def test_forward_hooks_are_called(part, before):
    embedding = PatchEmbed(embed_dims=5, kernel_size=4, stride=4, padding=0).double()
    images, calls = torch.randn(2, 3, 16, 16, dtype=torch.float64), []
    expected, _ = embed_patches(embedding, images)
    module = embedding.get_submodule(part)
    register = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = register(lambda *args: calls.append(args))
    tokens, _ = embed_patches(embedding, images)
    assert len(calls) == 1 and calls[0][0] is module
    torch.testing.assert_close(tokens, expected)
    handle.remove()
    embed_patches(embedding, images)
    assert len(calls) == 1
