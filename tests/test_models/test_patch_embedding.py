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
