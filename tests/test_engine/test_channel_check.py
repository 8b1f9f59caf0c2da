# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Channels between backbone, neck and heads, checked before training."""

from types import SimpleNamespace

import pytest
import torch
from mmdet.models import FPN
from mmengine.model import BaseModule
from mmseg.models import FCNHead, UPerHead
from torch import nn

from ibot_mm.engine import ChannelCheckHook
from ibot_mm.models import DeconvPyramid, SimplePyramid


class Backbone(nn.Module):
    out_channels = [16, 16, 16, 32]


def model(**modules):
    result = BaseModule()
    result.backbone = Backbone()
    for name, module in modules.items():
        setattr(result, name, module)
    return result


def check(*args, **modules):
    ChannelCheckHook().before_run(SimpleNamespace(model=model(*args, **modules)))


def fpn(*channels):
    return FPN(list(channels), 8, num_outs=5)


def fcn(in_channels, in_index, **kwargs):
    return FCNHead(in_channels=in_channels, in_index=in_index, channels=4, num_classes=2, **kwargs)


def uper(in_channels, in_index):
    return UPerHead(
        in_channels=in_channels, in_index=in_index, channels=4, num_classes=2, pool_scales=(1,)
    )


@pytest.mark.parametrize(
    'modules',
    [
        dict(),
        dict(neck=fpn(16, 16, 16, 32)),
        dict(neck=SimplePyramid(32, 8)),
        dict(neck=nn.Sequential(DeconvPyramid([16, 16, 16, 32]), fpn(16, 16, 16, 32))),
        dict(neck=nn.Sequential(SimplePyramid(32, 8), fpn(8, 8, 8, 8, 8))),
        dict(neck=fpn(16, 16, 16, 32), decode_head=uper([8, 8], [0, 4])),
        dict(decode_head=uper([16, 32], [0, 3]), auxiliary_head=fcn(32, -1)),
        dict(auxiliary_head=nn.ModuleList([fcn(16, 0), fcn(32, 3)])),
        dict(decode_head=nn.Identity(), neck=nn.Identity()),
    ],
    ids=lambda modules: ' '.join(modules) or 'backbone',
)
def test_what_fits_passes(modules):
    check(**modules)


@pytest.mark.parametrize(
    'modules, message',
    [
        (
            dict(neck=fpn(16, 16, 16, 16)),
            r'model\.neck\.in_channels is \[16, 16, 16, 16\], but model\.backbone gives feature '
            r'maps of \[16, 16, 16, 32\]',
        ),
        (dict(neck=fpn(16, 16, 16)), r'is \[16, 16, 16\], but'),
        (dict(neck=SimplePyramid(16, 8)), r'model\.neck\.in_channels is 16, but .* of 32 channels'),
        (
            dict(neck=nn.Sequential(SimplePyramid(32, 8), fpn(8, 8, 8, 8))),
            r'model\.neck\.1\.in_channels is \[8, 8, 8, 8\], but model\.neck\.0 gives .*'
            r'\[8, 8, 8, 8, 8\]',
        ),
        (
            dict(neck=fpn(16, 16, 16, 32), decode_head=uper([8, 16], [0, 1])),
            r'model\.decode_head\.in_channels is \[8, 16\], but model\.neck gives .*\[8, 8\]',
        ),
        (
            dict(decode_head=uper([16, 16], [0, 3])),
            r'model\.decode_head\.in_channels is \[16, 16\], but model\.backbone gives .*'
            r'\[16, 32\]',
        ),
        (
            dict(decode_head=fcn([16, 16], [0, 3], input_transform='resize_concat')),
            r'the sum of model\.decode_head\.in_channels is 32, but .* 48 channels',
        ),
        (
            dict(auxiliary_head=nn.ModuleList([fcn(16, 0), fcn(16, 3)])),
            r'model\.auxiliary_head\.1\.in_channels is 16, but .* 32 channels',
        ),
        (
            dict(auxiliary_head=fcn(16, 4)),
            r'model\.auxiliary_head\.in_index is 4, but model\.backbone gives 4 .* 0 to 3',
        ),
    ],
    ids=lambda value: '',
)
def test_what_does_not_fit_is_named(modules, message):
    with pytest.raises(ValueError, match=message):
        check(**modules)


def test_wrapped_models_are_unwrapped():
    wrapped = nn.Module()
    wrapped.module = model(neck=fpn(1, 2))
    with pytest.raises(ValueError, match='model.neck'):
        ChannelCheckHook().before_run(SimpleNamespace(model=wrapped))


def test_what_passes_runs():
    """The check and the modules agree on what fits."""
    neck = nn.Sequential(DeconvPyramid([16, 16, 16, 32]), fpn(16, 16, 16, 32))
    check(neck=neck)
    maps = tuple(torch.randn(2, channels, 4, 4) for channels in Backbone.out_channels)
    assert [features.shape[1] for features in neck(maps)] == [8] * 5
