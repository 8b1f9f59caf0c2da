# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Arguments that configs of mmpretrain's own backbones have, and ours settle."""

import pytest

from ibot_mm.models import MaskedSwinTransformer, ViTPyramid, WindowedVisionTransformer

VIT = dict(
    arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32), patch_size=8
)
SWIN = dict(arch=dict(embed_dims=8, depths=[1, 1], num_heads=[1, 2]), img_size=32, window_size=4)


@pytest.mark.parametrize(
    'backbone, options, right, wrong',
    [
        (ViTPyramid, VIT, dict(out_type='featmap'), dict(out_type='raw')),
        (ViTPyramid, VIT, dict(mask_token=False), dict(mask_token=True)),
        (WindowedVisionTransformer, VIT, dict(out_type='featmap'), dict(out_type='cls_token')),
        (MaskedSwinTransformer, SWIN, dict(out_indices=[1]), dict(out_indices=[0, 1])),
        (MaskedSwinTransformer, SWIN, dict(use_abs_pos_embed=False), dict(pad_small_map=False)),
    ],
)
def test_what_is_so_may_be_said(backbone, options, right, wrong):
    backbone(**options, **right)
    with pytest.raises(ValueError, match=f'{backbone.__name__} has {next(iter(wrong))}=.*leave it'):
        backbone(**options, **wrong)
