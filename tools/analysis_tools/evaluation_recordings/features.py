# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Frozen features of a ViT and a Swin: last blocks, poolings, several scales, copy detection."""

import re
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ibot_mm.checkpoint import published_to_ibot_mm, to_unfold_order
from ibot_mm.evaluation import FeatureExtractor, FeatureSettings
from ibot_mm.evaluation.views import normalize, square_image
from ibot_mm.functional.pooling import (
    POOLINGS,
    cls_generalized_mean,
    multi_scale_features,
)
from ibot_mm.registry import MODELS

from .recording import Recording

RECORDS = ('vit.*', 'features.n*.avgpool*')
INPUTS = ('vit.*', 'images', 'multiscale.images', 'copy.image*', 'swin.images')
INPUTS += tuple(f'swin.{part}.*' for part in ('patch_embed', 'layers', 'norm'))


def replay(recording: Recording) -> dict[str, Any]:
    """Compute what our backbones and poolings give."""
    vit = build_vit(recording.settings, recording.tensors('vit.'))
    images = recording.tensor('images')
    tokens = FeatureExtractor(vit, FeatureSettings(num_blocks=2)).tokens(images)
    values: dict[str, Any] = {f'tokens_last2.{i}': block for i, block in enumerate(tokens)}
    values |= _pooled(recording, vit, images, '')
    values |= _multi_scale(recording, vit)
    values['copy.features'] = _copy_detection(recording, vit)
    if 'swin.images' in recording.arrays:
        swin = build_swin(recording.settings['swin'], recording.tensors('swin.'))
        values |= _pooled(recording, swin, recording.tensor('swin.images'), 'swin.')
    return values


def build_vit(settings: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """Our ViT with recorded weights of published names, in float64."""
    vit = settings['vit']
    return _filled(
        dict(
            type='ibot_mm.MaskedVisionTransformer',
            arch=dict(
                embed_dims=vit['embed_dim'],
                num_layers=vit['depth'],
                num_heads=vit['num_heads'],
                feedforward_channels=int(settings['mlp_ratio'] * vit['embed_dim']),
            ),
            img_size=vit['image_size'],
            patch_size=vit['patch_size'],
            norm_cfg=dict(type='LN', eps=settings['norm_eps']),
            final_norm='norm.weight' in state,
        ),
        state,
    )


def build_swin(settings: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """Our Swin with recorded weights of published names, in float64."""
    arch = dict(
        embed_dims=settings['embed_dim'],
        depths=settings['depths'],
        num_heads=settings['num_heads'],
    )
    return _filled(
        dict(
            type='ibot_mm.MaskedSwinTransformer',
            arch=arch,
            **{name: settings[name] for name in ('img_size', 'patch_size', 'window_size')},
        ),
        to_unfold_order(
            {n: t for n, t in state.items() if n.startswith(('patch_embed.', 'layers.', 'norm.'))}
        ),
    )


def _filled(config: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    backbone: nn.Module = MODELS.build(dict(mask_token='masked_embed' in state) | config).double()
    state = {f'backbone.{name}': tensor for name, tensor in state.items()}
    names = published_to_ibot_mm(state, shared_head=True)
    own = backbone.state_dict()
    ours = {names[name].removeprefix('backbone.'): tensor for name, tensor in state.items()}
    ours = {name: tensor.reshape(own[name].shape) for name, tensor in ours.items()}
    missing = [name for name in own if name not in ours and 'relative_position_index' not in name]
    if missing:
        raise KeyError(f'the recording does not have {missing}')
    backbone.load_state_dict(ours, strict=False)
    return backbone.eval()


def _pooled(
    recording: Recording, backbone: nn.Module, images: Tensor, prefix: str
) -> dict[str, Tensor]:
    """Features of all recorded numbers of blocks and poolings."""
    values = {}
    for name in recording.arrays:
        if match := re.fullmatch(rf'{re.escape(prefix)}features\.n(\d+)\.avgpool(\d)', name):
            number, pooling = int(match[1]), POOLINGS[int(match[2])]
            settings = FeatureSettings(number, pooling, final_norm=pooling != 'patch_mean')
            values[name] = FeatureExtractor(backbone, settings)(images)
    return values


def _multi_scale(recording: Recording, vit: nn.Module) -> dict[str, Tensor]:
    """Images of a batch one at a time, since they could differ in size."""
    images = recording.tensor('multiscale.images').split(1)
    scales = recording.settings['multiscale_scales']
    values = {}
    for name in recording.arrays:
        if match := re.fullmatch(r'multiscale\.features\.(?:avgpool(\d)|one_scale)', name):
            extract = FeatureExtractor(vit, FeatureSettings(1, POOLINGS[int(match[1] or 0)]))
            if match[1]:
                parts = [multi_scale_features(extract, image, scales) for image in images]
            else:
                parts = [extract(image) for image in images]
            values[name] = torch.cat(parts)
    return values


def _copy_detection(recording: Recording, vit: nn.Module) -> Tensor:
    """[CLS] beside the generalized mean of the patches, of square images."""
    size, power = recording.settings['copy_image_size'], recording.settings['gem_power']
    extract = FeatureExtractor(vit)
    features = []
    for index in range(sum(name.startswith('copy.image') for name in recording.arrays)):
        image = square_image(Image.fromarray(recording.arrays[f'copy.image{index}']), size)
        (tokens,) = extract.tokens(normalize(image[None].flip(1).double()))
        features.append(cls_generalized_mean(tokens, power))
    return torch.cat(features)
