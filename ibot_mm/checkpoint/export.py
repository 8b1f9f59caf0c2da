# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of a backbone for other libraries."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from .convert import express
from .describe import EPS, describe_backbone
from .errors import CheckpointError
from .formats import MMPRETRAIN, TIMM
from .formats.swin import swin_format
from .libraries import LIBRARIES, MASK_TOKEN, Target, call
from .recognize import choose_prefix
from .settings import Settings
from .swin_names import INDEX, express_swin, swin_options

TIMM_MODEL = 'timm_model.'  # between the backbone's name and timm's names


@dataclass(frozen=True)
class Export:
    """Weights for a network of another library.

    Args:
        target: The network.
        weights: Its names and shapes, complete.
    """

    target: Target
    weights: dict[str, Tensor]


def export_backbone(backbone: nn.Module, library: str) -> Export:
    """Give the weights of a backbone the names and form of a library.

    Values stay as they are, bit by bit: read back by :func:`rebuild_backbone` they are the same. A
    network of the library that is built by ``target.options`` takes them with ``strict=True`` and
    gives the same tokens.

    Args:
        backbone: :class:`ibot_mm.MaskedVisionTransformer` or
            :class:`ibot_mm.MaskedSwinTransformer`.
        library: 'mmpretrain' (of Swin mmdet and mmseg too), 'timm', 'published' (the published
            iBOT) or 'huggingface' (transformers).

    Raises:
        CheckpointError: If the library is unknown or has no network with all parts of this one.
    """
    if library not in LIBRARIES:
        raise CheckpointError(f"Unknown library '{library}': choose from {', '.join(LIBRARIES)}.")
    if hasattr(backbone, 'stages'):
        return _export_swin(cast(Any, backbone), library)
    target = LIBRARIES[library](describe_backbone(backbone))
    if target.lacks:
        raise CheckpointError(
            f'{target.title} cannot hold these weights, which have {", ".join(target.lacks)}. '
            f'Export them for another library than {library}.'
        )
    state = {n: t for n, t in backbone.state_dict().items() if n not in target.left_out}
    if target.positions and 'pos_embed' in state:
        before, patches = state['pos_embed'].tensor_split([int('cls_token' in state)], dim=1)
        zeros = patches.new_zeros(1, target.positions, patches.shape[2])
        state['pos_embed'] = torch.cat([before, zeros, patches], dim=1)
    dtype = next(iter(state.values())).dtype
    state |= {name: tensor.to(dtype) for name, tensor in target.added.items()}
    return Export(target, express(state, target.format))


def export_timm_model(tensors: Mapping[str, Tensor], network: str = 'teacher') -> Export | None:
    """Weights of a timm model that was trained inside :class:`ibot_mm.TimmVisionTransformer`.

    There its names only have a prefix, so any model of timm's can be exported, formats that this
    package does not know included.

    Args:
        tensors: A whole checkpoint, as from :func:`load_checkpoint_file`.
        network: 'teacher' or 'student'. Defaults to 'teacher'.

    Returns:
        The weights; None if the checkpoint holds no such model.

    Raises:
        CheckpointError: If there is not exactly one such network.
    """
    names = [name.partition(TIMM_MODEL) for name in tensors]
    prefixes = list(dict.fromkeys(start + sign for start, sign, _ in names if sign))
    if not prefixes:
        return None
    prefix = choose_prefix(prefixes, network)
    mask_token = prefix.removesuffix(TIMM_MODEL) + 'mask_token'
    target = Target(
        title='the timm model of the training',
        format=TIMM,
        options={},
        usage='timm.create_model(NAME, num_classes=0, ..., checkpoint_path=FILE), as in training',
        suffixes=('.safetensors', '.pth'),
        left_out={'mask_token': MASK_TOKEN} if mask_token in tensors else {},
    )
    weights = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    return Export(target, weights)


def _export_swin(backbone: Any, library: str) -> Export:
    state = backbone.state_dict()
    if library == 'huggingface':
        raise CheckpointError(
            'Swin is exported for mmpretrain (and mmdet, mmseg), timm and published, not for '
            f'{library}.'
        )
    target = _swin_target(backbone, library)
    if library != 'published' and state.pop('mask_token', None) is not None:
        target.left_out['mask_token'] = MASK_TOKEN
    if library == 'mmpretrain':
        return Export(target, state)
    if library == 'timm':  # which does not store what it computes
        state = {name: tensor for name, tensor in state.items() if not name.endswith(INDEX)}
    return Export(target, express_swin(state, target.format))


def _swin_target(backbone: Any, library: str) -> Target:
    patch = backbone.patch_embed.projection.kernel_size[0]
    height, width = (patch * number for number in backbone.patch_resolution)
    own = swin_options(backbone.state_dict(), Settings(img_size=(height, width)))
    if library == 'mmpretrain':
        norm = dict(type='LN', eps=EPS)
        stages = [
            dict(
                window_size=stage.blocks[0].attn.window_size,
                block_cfgs=dict(norm_cfg=norm),
                downsample_cfg=dict(norm_cfg=norm),
            )
            for stage in backbone.stages
        ]
        options = dict(
            arch=own['arch'],
            in_channels=own['in_channels'],
            img_size=(height, width),
            patch_size=patch,
            out_indices=(len(stages) - 1,),
            norm_cfg=norm,
            patch_cfg=dict(norm_cfg=norm, padding=0),
            stage_cfgs=stages,
        )
        return Target(
            title="mmpretrain's SwinTransformer, whose names mmdet's and mmseg's have too",
            format=MMPRETRAIN,
            options=options,
            usage=call('dict', type='mmpretrain.SwinTransformer', **options)[:-1]
            + ", init_cfg=dict(type='Pretrained', checkpoint=FILE))",
            suffixes=('.pth',),
        )
    options = dict(
        img_size=(height, width) if library == 'timm' else height,
        patch_size=patch,
        in_chans=own['in_channels'],
        embed_dim=own['arch']['embed_dims'],
        depths=own['arch']['depths'],
        num_heads=own['arch']['num_heads'],
        window_size=own['window_size'],
        num_classes=0,
    )
    format = swin_format(backbone.num_layers, of_timm=library == 'timm')
    if library == 'timm':
        name = 'swin_tiny_patch4_window7_224'
        options |= dict(norm_layer=partial(nn.LayerNorm, eps=EPS))
        return Target(
            title=format.title,
            format=format,
            options=dict(model_name=name) | options,
            usage=call('timm.create_model', name, **options)[:-1] + ', checkpoint_path=FILE)',
            remark='timm pads maps in another way, where windows do not divide them',
            suffixes=('.safetensors', '.pth'),
        )
    options['masked_im_modeling'] = own['mask_token']
    return Target(
        title=format.title,
        format=format,
        options=options,
        usage=call('models.swin_transformer.SwinTransformer', **options)
        + ".load_state_dict(torch.load(FILE)['state_dict'])",
        suffixes=('.pth',),
    )
