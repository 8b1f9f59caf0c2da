# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Networks of other libraries that take the weights of a ViT: what each is called and can hold."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .describe import EPS, ViTDescription
from .formats import HF_DINOV2, HF_DINOV3, HF_VIT, MMPRETRAIN, PUBLISHED, TIMM, TIMM_DINOV3, Format
from .parts import part_of

MASK_TOKEN = 'the mask token, which only pre-training needs'


@dataclass
class Target:
    """A network of a library.

    Args:
        title: Its class, for messages.
        format: Names of its parameters.
        options: Arguments it is built with, or the contents of ``config.json``.
        lacks: Parts of the ViT that it has not; weights with them cannot be exported.
        left_out: Our names of parameters that it does without, and what they are.
        added: Our names of parameters that it always has, with values of no effect.
        positions: How many entries of zero it has in the position embedding between [CLS] and
            the patches.
        remark: Where it computes something else.
        suffixes: Of files that the library reads; empty for a folder of Hugging Face's.
        usage: How to build and fill it, one line; ``FILE`` stands for the file or folder.
    """

    title: str
    format: Format
    options: dict[str, Any]
    usage: str
    suffixes: tuple[str, ...] = ()
    lacks: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)
    positions: int = 0
    remark: str = ''

    def notes(self) -> list[str]:
        """What weights lose and gain, in words; what is empty is nothing."""
        notes = [f'left out: {what}' for what in self.left_out.values()]
        for name, tensor in self.added.items():
            part = part_of(name)
            if part and tensor.numel():
                value = 'ones' if tensor.all() else 'zeros'
                notes.append(f'added, without effect: {part.title} of {value}')
        return [*dict.fromkeys(notes), *([self.remark] if self.remark else [])]


def mmpretrain(vit: ViTDescription) -> Target:
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
    _refuse(target, vit, 'registers', 'rotary')
    _without_mask_token(target, vit)
    return target


def timm(vit: ViTDescription) -> Target:
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


def published(vit: ViTDescription) -> Target:
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
    refused = ('registers', 'rotary', 'gated', 'pre_norm', 'no final_norm', 'no cls_token')
    _refuse(target, vit, *refused, 'not square', 'eps')
    _with_patch_bias(target, vit)
    return target


def huggingface(vit: ViTDescription) -> Target:
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
        hidden_act='gelu',
    )
    refused = ['pre_norm', 'no final_norm', 'no cls_token', 'patch not square']
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
        refused.append('not square')
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


LIBRARIES: dict[str, Callable[[ViTDescription], Target]] = {
    'mmpretrain': mmpretrain,
    'timm': timm,
    'published': published,
    'huggingface': huggingface,
}


def _refuse(target: Target, vit: ViTDescription, *parts: str) -> None:
    """Note what the ViT has, or is, that the network cannot be."""
    square_patch = len(set(vit.patch_size)) == 1
    parts_of_it = {
        'registers': (vit.num_registers > 0, 'register tokens'),
        'rotary': (vit.rotary, 'rotary position embedding'),
        'gated': (vit.gated, 'a gated feed-forward network (SwiGLU)'),
        'pre_norm': (vit.pre_norm, 'a norm before the layers'),
        'no final_norm': (not vit.final_norm, 'no final norm'),
        'no cls_token': (not vit.cls_token, 'no [CLS] token'),
        'patch not square': (not square_patch, 'patches that are not square'),
        'not square': (
            not square_patch or len(set(vit.img_size)) > 1,
            'a position embedding that is not square',
        ),
        'eps': (vit.norm_eps != EPS, f'norms with an eps of {vit.norm_eps}, not {EPS}'),
    }
    target.lacks += [words for part in parts for has, words in [parts_of_it[part]] if has]


def _without_mask_token(target: Target, vit: ViTDescription) -> None:
    if vit.mask_token:
        target.left_out['mask_token'] = MASK_TOKEN


def _with_layer_scale(target: Target, vit: ViTDescription) -> None:
    if not vit.layer_scale:
        for i in range(vit.num_layers):
            for name in ('attn.gamma1', 'ffn.gamma2'):
                target.added[f'layers.{i}.{name}.weight'] = torch.ones(vit.embed_dims)


def _with_patch_bias(target: Target, vit: ViTDescription) -> None:
    if not vit.patch_bias:
        target.added['patch_embed.projection.bias'] = torch.zeros(vit.embed_dims)


def _ratio(hidden: int, width: int) -> float:
    """The ratio from which ``int(width * ratio)`` gives the hidden channels."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def call(function: str, *args: Any, **options: Any) -> str:
    """A call, as one would write it."""

    def written(value: Any) -> str:
        if isinstance(value, partial):
            return f'partial(nn.LayerNorm, eps={value.keywords["eps"]})'
        return repr(value)

    words = [repr(value) for value in args]
    words += [f'{name}={written(value)}' for name, value in options.items()]
    return f'{function}({", ".join(words)})'
