# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModule

from ibot_mm.models import DeconvPyramid, SimplePyramid, SyncBatchNorm
from ibot_mm.registry import MODELS


def random_maps(*sides, channels=8, number=4):
    return [torch.randn(2, channels, *sides) for _ in range(number)]


def named(module, prefix):
    return {k.removeprefix(f'{prefix}.'): v for k, v in module.named_parameters() if prefix in k}


def deconvolve(features, parameters, name):
    """Each value becomes 2 x 2 values: no overlap, as the kernel is as large as the stride."""
    weight, bias = parameters[f'{name}.weight'], parameters[f'{name}.bias']
    blocks = torch.einsum('bchw,cdyx->bdhywx', features, weight)
    return blocks.flatten(2, 3).flatten(3, 4) + bias.view(-1, 1, 1)


def pool(features, side):
    windows = features.unfold(2, side, side).unfold(3, side, side)
    return windows.amax(dim=(-2, -1))


def normalize_batch(features):
    mean = features.mean(dim=(0, 2, 3), keepdim=True)
    variance = features.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
    return (features - mean) / (variance + 1e-5).sqrt()


def normalize_channels(features):
    mean = features.mean(dim=1, keepdim=True)
    variance = features.var(dim=1, unbiased=False, keepdim=True)
    return (features - mean) / (variance + 1e-6).sqrt()


@pytest.mark.parametrize('sides', [(4, 4), (3, 5)], ids=str)
def test_deconv_pyramid_of_stride_16(sides):
    pyramid, maps = DeconvPyramid(8), random_maps(*sides)
    first, second = named(pyramid, 'levels.0'), named(pyramid, 'levels.1')
    expected = [
        deconvolve(F.gelu(normalize_batch(deconvolve(maps[0], first, '0'))), first, '3'),
        deconvolve(maps[1], {f'_.{name}': p for name, p in second.items()}, '_'),
        maps[2],
        pool(maps[3], 2),
    ]
    torch.testing.assert_close(list(pyramid(maps)), expected, atol=1e-5, rtol=1e-5)
    assert isinstance(pyramid.levels[0][1], SyncBatchNorm)
    assert pyramid.in_channels == pyramid.out_channels == [8] * 4


@pytest.mark.parametrize('sides', [(4, 4), (5, 9)], ids=str)
def test_deconv_pyramid_of_stride_8(sides):
    pyramid, maps = DeconvPyramid([8, 6, 4, 2], stride=8), random_maps(*sides)
    maps = [features[:, :channels] for features, channels in zip(maps, pyramid.out_channels)]
    first = {f'_.{name}': p for name, p in named(pyramid, 'levels.0').items()}
    expected = [deconvolve(maps[0], first, '_'), maps[1], pool(maps[2], 2), pool(maps[3], 4)]
    torch.testing.assert_close(list(pyramid(maps)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    'stride, out_strides',
    [
        (16, [4, 8, 16, 32]),
        (8, [4, 8, 16, 32]),
        (14, [3.5, 7, 14, 28]),
        (32, [8, 16, 32, 64]),
    ],
)
def test_levels_that_are_not_chosen(stride, out_strides):
    pyramid, image = DeconvPyramid(8, stride), 4 * 7 * 64
    assert pyramid.out_strides == out_strides
    maps = pyramid(random_maps(image // stride, image // stride))
    assert [image / features.shape[2] for features in maps] == out_strides


@pytest.mark.parametrize(
    'stride, out_strides',
    [(16, [8, 16, 32]), (16, [4, 8, 16, 32, 64]), (14, [7, 14, 28]), (8, [8]), (16, [4, 64])],
    ids=str,
)
@pytest.mark.parametrize('neck', [DeconvPyramid, SimplePyramid])
def test_levels_can_be_chosen(neck, stride, out_strides):
    options = dict(out_channels=8, num_outs=len(out_strides)) if neck is SimplePyramid else {}
    chosen = neck(8, stride=stride, out_strides=out_strides, **options)
    image = 4 * 7 * 64
    maps = random_maps(image // stride, image // stride, number=len(out_strides))
    outputs = chosen(maps)
    assert [image / features.shape[2] for features in outputs] == out_strides
    assert len(outputs) == len(chosen.out_channels) and chosen.out_strides == out_strides


def test_chosen_levels_are_those_of_all_four():
    """Three levels are the last three of the published four, with the same weights."""
    for neck in (DeconvPyramid, SimplePyramid):
        options = dict(num_outs=4) if neck is SimplePyramid else {}
        four, three = neck(8, **options), neck(8, out_strides=[8, 16, 32], **options)
        three.levels.load_state_dict(four.levels[1:].state_dict())
        maps = random_maps(4, 6)
        expected = four(maps)[1:]
        torch.testing.assert_close(three(maps[1:])[:3], expected)


@pytest.mark.parametrize('num_outs', [4, 5])
def test_simple_pyramid(num_outs):
    pyramid = SimplePyramid(8, out_channels=6, num_outs=num_outs)
    (features,) = random_maps(5, 4, number=1)

    def project(level, inputs, index):
        weights = [p for p in named(pyramid, f'levels.{level}').values() if p.ndim == 4][-2:]
        inputs = normalize_channels(F.conv2d(inputs, weights[0]))
        return normalize_channels(F.conv2d(inputs, weights[1], padding=1))

    first, second = named(pyramid, 'levels.0'), named(pyramid, 'levels.1')
    up = deconvolve(F.gelu(normalize_channels(deconvolve(features, first, '0'))), first, '3')
    expected = [up, deconvolve(features, second, '0'), features, pool(features, 2)]
    expected = [project(level, inputs, level) for level, inputs in enumerate(expected)]
    if num_outs == 5:
        expected.append(F.max_pool2d(expected[-1], kernel_size=1, stride=2))
    outputs = pyramid([torch.randn(1), features])  # only the last map counts
    torch.testing.assert_close(list(outputs), expected, atol=1e-5, rtol=1e-5)
    assert pyramid.out_channels == [6] * num_outs and pyramid.in_channels == 8


@pytest.mark.parametrize('neck', [DeconvPyramid(8), DeconvPyramid(8, stride=8), SimplePyramid(8)])
def test_maps_from_tokens_come_out_contiguous(neck):
    """mmcv's RoIAlign on the CPU silently needs that; a ViT's maps are views of its tokens."""
    maps = [m.to(memory_format=torch.channels_last) for m in random_maps(4, 6)]
    outputs = neck(maps)
    assert all(output.is_contiguous() for output in outputs)
    for output, expected in zip(outputs, neck([m.contiguous() for m in maps])):
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize('type_', ['DeconvPyramid', 'SimplePyramid'])
def test_registered(type_):
    assert isinstance(MODELS.build(dict(type=f'ibot_mm.{type_}', in_channels=8)), BaseModule)


@pytest.mark.parametrize(
    'neck, arguments, message',
    [
        (DeconvPyramid, dict(in_channels=[8, 8, 8]), r'4 maps for .*in_channels=\[8, 8, 8\]'),
        (
            DeconvPyramid,
            dict(in_channels=[8, 8], out_strides=[8, 16, 32]),
            r'3 maps for out_strides=\[8, 16, 32\], got in_channels=\[8, 8\].*out_indices',
        ),
        (
            DeconvPyramid,
            dict(in_channels=8, stride=14, out_strides=[4, 8, 16, 32]),
            r'\[4, 8, 16, 32\] of maps of stride 14: choose among \[3.5, 7, 14, 28, 56\]',
        ),
        (DeconvPyramid, dict(in_channels=8, out_strides=[16, 8]), 'in increasing order'),
        (DeconvPyramid, dict(in_channels=8, out_strides=[]), r'out_strides=\[\]'),
        (SimplePyramid, dict(in_channels=8, out_strides=[2, 4]), r'among \[4, 8, 16, 32, 64\]'),
        (
            SimplePyramid,
            dict(in_channels=8, out_strides=[8, 16, 32]),
            r'has 3 or 4 levels with out_strides=\[8, 16, 32\], got num_outs=5',
        ),
        (SimplePyramid, dict(in_channels=8, num_outs=6), 'got num_outs=6'),
        (SimplePyramid, dict(in_channels=6), 'multiple of 4, got 6'),
    ],
)
def test_bad_arguments(neck, arguments, message):
    with pytest.raises(ValueError, match=message):
        neck(**arguments)


@pytest.mark.parametrize(
    'neck, maps, message',
    [
        (DeconvPyramid(8), random_maps(4, 4, number=3), r'\[8, 8, 8, 8\] channels.*\[8, 8, 8\]'),
        (DeconvPyramid(8), random_maps(4, 4, channels=6), r'\[8, 8, 8, 8\].*\[6, 6, 6, 6\]'),
        (DeconvPyramid(8), random_maps(4, 1), r'map of \(4, 1\), too small.*32 x 32'),
        (DeconvPyramid(8, stride=8), random_maps(3, 4), r'map of \(3, 4\), too small'),
        (DeconvPyramid(8, stride=14), random_maps(1, 4), r'too small.*at least 28 x 28 pixels'),
        (SimplePyramid(8), random_maps(4, 4, channels=4), r'\[8\] channels and got \[4\]'),
        (SimplePyramid(8), random_maps(1, 4), r'map of \(1, 4\), too small'),
    ],
)
def test_maps_that_do_not_fit(neck, maps, message):
    with pytest.raises(ValueError, match=message):
        neck(maps)
