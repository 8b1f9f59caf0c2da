# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Networks of other libraries that take the weights of a ViT: what each is called and can hold."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .architecture import Architecture
from .export import MASK_TOKEN, Target, call
from .formats import HF_DINOV2, HF_DINOV3, HF_VIT, MMPRETRAIN, PUBLISHED, TIMM, TIMM_DINOV3
from .parts import BY_NAME, EPS


def mmpretrain(vit: Architecture) -> Target:
    """``mmpretrain.models.VisionTransformer``."""
    own = ('mask_token', 'num_registers', 'rotary')  # arguments of our class alone
    options = {name: value for name, value in vit.options().items() if name not in own}
    options |= dict(out_type='raw') | (
        {} if 'patch_cfg' in options else dict(patch_cfg=dict(padding=0))
    )
    target = Target(
        title="mmpretrain's VisionTransformer",
        format=MMPRETRAIN,
        options=options,
        usage=call('dict', type='mmpretrain.VisionTransformer', **options)[:-1]
        + ", init_cfg=dict(type='Pretrained', checkpoint=FILE))",
        suffixes=('.pth',),
    )
    _refuse(target, vit, 'num_registers', 'rotary')
    _without_mask_token(target, vit)
    return target


def timm(vit: Architecture) -> Target:
    """timm's ``VisionTransformer``, or its ``Eva`` in the form of DINOv3 for rotary positions."""
    options: dict[str, Any] = dict(
        patch_size=vit.patch_size[0] if len(set(vit.patch_size)) == 1 else vit.patch_size,
        in_chans=vit.in_channels,
        num_classes=0,
        embed_dim=vit.embed_dims,
        depth=vit.num_layers,
        num_heads=vit.num_heads,
        qkv_bias=vit.qkv_bias,
        init_values=1e-5 if vit.layer_scale else None,
        class_token=vit.cls_token,
        global_pool='token' if vit.cls_token else '',
    )
    name, packed = 'vit_base_patch16_224', 2 if vit.gated else 1
    if vit.rotary:
        # Attention 'rope', since that of EVA knows no bias of keys.
        name, attention = 'vit_base_patch16_dinov3', dict(attn_type='rope')
        options |= attention | dict(num_reg_tokens=vit.num_registers, swiglu_mlp=vit.gated)
        packed = 1
    else:
        name = 'vit_giant_patch14_dinov2' if vit.gated else name
        options |= dict(
            img_size=vit.img_size,
            reg_tokens=vit.num_registers,
            no_embed_class=False,
            pre_norm=vit.pre_norm,
            final_norm=vit.final_norm,
        )
    if vit.activation not in ('gelu', 'silu'):
        options['act_layer'] = vit.activation
    options['mlp_ratio'] = _ratio(packed * vit.hidden, vit.embed_dims)
    if vit.norm_eps != (1e-5 if vit.rotary else EPS):
        options['norm_layer'] = partial(nn.LayerNorm, eps=vit.norm_eps)
    target = Target(
        title="timm's Eva" if vit.rotary else "timm's VisionTransformer",
        format=TIMM_DINOV3 if vit.rotary else TIMM,
        options=dict(model_name=name) | options,
        usage=call('timm.create_model', name, **options)[:-1] + ', checkpoint_path=FILE)',
        suffixes=('.safetensors', '.pth'),
        positions=0 if vit.rotary else vit.num_registers,
    )
    if vit.rotary:
        _refuse(target, vit, 'pre_norm', 'no final_norm')
    if vit.rotary or vit.gated:
        _with_layer_scale(target, vit)
    _without_mask_token(target, vit)
    if vit.pre_norm and vit.patch_bias:
        target.lacks.append('a bias of the patch embedding beside a norm before the layers')
    if not vit.pre_norm:
        _with_patch_bias(target, vit)
    return target


def published(vit: Architecture) -> Target:
    """``VisionTransformer`` of the published iBOT, as in its ``checkpoint_teacher.pth``."""
    options = dict(
        img_size=[vit.img_size[0]],
        patch_size=vit.patch_size[0],
        in_chans=vit.in_channels,
        embed_dim=vit.embed_dims,
        depth=vit.num_layers,
        num_heads=vit.num_heads,
        mlp_ratio=_ratio(vit.hidden, vit.embed_dims),
        qkv_bias=vit.qkv_bias,
        init_values=1e-5 if vit.layer_scale else 0,
        masked_im_modeling=vit.mask_token,
    )
    target = Target(
        title="the published iBOT's VisionTransformer",
        format=PUBLISHED,
        options=options,
        usage=call('models.vision_transformer.VisionTransformer', **options)
        + ".load_state_dict(torch.load(FILE)['state_dict'])",
        suffixes=('.pth',),
    )
    refused = ('num_registers', 'rotary', 'gated', 'pre_norm', 'no final_norm', 'no cls_token')
    _refuse(target, vit, *refused, 'square')
    _refuse_values(target, vit, norm_eps=EPS, **({} if vit.gated else dict(activation='gelu')))
    _with_patch_bias(target, vit)
    return target


def huggingface(vit: Architecture) -> Target:
    """``ViTModel`` of transformers; ``Dinov2Model`` and the like where parts ask for it."""
    size, patch = vit.img_size, vit.patch_size
    config: dict[str, Any] = dict(
        hidden_size=vit.embed_dims,
        num_hidden_layers=vit.num_layers,
        num_attention_heads=vit.num_heads,
        image_size=size[0] if size[0] == size[1] else list(size),
        patch_size=patch[0],
        num_channels=vit.in_channels,
        layer_norm_eps=vit.norm_eps,
        hidden_act=_HF_ACTIVATIONS.get(vit.activation, vit.activation),
    )
    refused = ['pre_norm', 'no final_norm', 'no cls_token', 'square patch']
    added = {}
    if vit.rotary:
        kind, format = 'DINOv3ViT', HF_DINOV3
        config |= dict(model_type='dinov3_vit', intermediate_size=vit.hidden, rope_theta=100.0)
        config |= dict(num_register_tokens=vit.num_registers, use_gated_mlp=vit.gated)
        config |= dict.fromkeys(('query_bias', 'key_bias', 'value_bias'), vit.qkv_bias)
        config |= dict(hidden_act='silu') if vit.gated else {}
        if not vit.num_registers:
            added['register_tokens'] = torch.zeros(1, 0, vit.embed_dims)
    elif vit.num_registers or vit.layer_scale or vit.gated:
        kind, format = 'Dinov2', HF_DINOV2
        config |= dict(model_type='dinov2', qkv_bias=vit.qkv_bias, use_swiglu_ffn=vit.gated)
        # Its SwiGLU has two thirds of these, rounded up to a multiple of 8.
        config['mlp_ratio'] = _ratio(
            vit.hidden * 3 // 2 if vit.gated else vit.hidden, vit.embed_dims
        )
        config['use_mask_token'] = vit.mask_token
        if vit.num_registers:
            kind, config['model_type'] = 'Dinov2WithRegisters', 'dinov2_with_registers'
            config['num_register_tokens'] = vit.num_registers
            del config['use_mask_token']
        refused.append('square')
    else:
        kind, format = 'ViT', HF_VIT
        config |= dict(model_type='vit', intermediate_size=vit.hidden, qkv_bias=vit.qkv_bias)
    config['architectures'] = [f'{kind}Model']
    pooling = ', add_pooling_layer=False' if kind == 'ViT' else ''
    target = Target(
        title=f"transformers' {kind}Model",
        format=format,
        options=config,
        usage=f'transformers.{kind}Model.from_pretrained(FILE{pooling})',
        added=added,
    )
    _refuse(target, vit, *refused)
    if kind == 'ViT':
        _without_mask_token(target, vit)
    elif not vit.mask_token and kind != 'Dinov2':
        target.added['mask_token'] = torch.zeros(1, 1, vit.embed_dims)
    if kind != 'ViT':
        _with_layer_scale(target, vit)
    _with_patch_bias(target, vit)
    return target


_HF_ACTIVATIONS = dict(gelu_tanh='gelu_pytorch_tanh')

LIBRARIES: dict[str, Callable[[Architecture], Target]] = {
    'mmpretrain': mmpretrain,
    'timm': timm,
    'published': published,
    'huggingface': huggingface,
}


def _refuse(target: Target, vit: Architecture, *parts: str) -> None:
    """Note what the ViT has, or is, that the network cannot be.

    Args:
        target: The network.
        vit: The ViT.
        *parts: Names of parts that the network does not have; with 'no ' in front, of parts that
            it always has; or 'square', for all that is not.
    """
    for name in parts:
        wanted = name.startswith('no ')
        part = BY_NAME.get(name.removeprefix('no '))
        if part and bool(vit.values[part.name]) != wanted:
            title = part.title.removeprefix('a ').removeprefix('the ')
            target.lacks.append(f'no {title}' if wanted else part.title)
    square = len(set(vit.patch_size)) == 1
    if 'square patch' in parts and not square:
        target.lacks.append('patches that are not square')
    if 'square' in parts and not (square and len(set(vit.img_size)) == 1):
        target.lacks.append('a position embedding that is not square')


def _refuse_values(target: Target, vit: Architecture, **fixed: Any) -> None:
    """Note where the network has one value only."""
    for name, value in fixed.items():
        if vit.values[name] != value:
            target.lacks.append(
                f'norms with an eps of {vit.norm_eps}, not {EPS}'
                if name == 'norm_eps'
                else f'{vit.values[name]} as {BY_NAME[name].title}, not {value}'
            )


def _without_mask_token(target: Target, vit: Architecture) -> None:
    if vit.mask_token:
        target.left_out['mask_token'] = MASK_TOKEN


def _with_layer_scale(target: Target, vit: Architecture) -> None:
    if not vit.layer_scale:
        for i in range(vit.num_layers):
            for name in ('attn.gamma1', 'ffn.gamma2'):
                target.added[f'layers.{i}.{name}.weight'] = torch.ones(vit.embed_dims)


def _with_patch_bias(target: Target, vit: Architecture) -> None:
    if not vit.patch_bias:
        target.added['patch_embed.projection.bias'] = torch.zeros(vit.embed_dims)


def _ratio(hidden: int, width: int) -> float:
    """The ratio from which ``int(width * ratio)`` gives the hidden channels."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
