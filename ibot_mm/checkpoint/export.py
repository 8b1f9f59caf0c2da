# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of a ViT for networks of other libraries: what each is called and can hold."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .architecture import Architecture, single
from .convert import express
from .formats import HF_DINOV2, HF_DINOV3, HF_VIT, MMPRETRAIN, PUBLISHED, TIMM, TIMM_DINOV3
from .locate import CheckpointError
from .names import Format
from .specification import BY_NAME, PATCHES, part_of
from .unseen import EPS

MASK_TOKEN = 'the mask token, which only pre-training needs'


@dataclass
class Target:
    """A network of a library.

    Args:
        title: Its class, for messages.
        format: Names of its parameters.
        options: Arguments it is built with, or the contents of ``config.json``.
        usage: How to build and fill it, one line; ``FILE`` stands for the file or folder.
        suffixes: Of files that the library reads; empty for a folder of Hugging Face's.
        without: Parts that it does not have; of a ViT with them only the mask token is left out,
            others cannot be exported.
        always: Parts that it has in any case. What has no effect is added, see :data:`_NEUTRAL`;
            a ViT without the others cannot be exported.
        fixed: Parts of which it has one value only.
        square: Which sizes it has square only: 'patches', 'all' or none.
        positions: How many entries of zero it has in the position embedding between [CLS] and
            the patches.
        remark: Where it computes something else.
        left_out: Our names of parameters that it does without, and what they are.
        added: Our names of parameters that were added.
    """

    title: str
    format: Format
    options: dict[str, Any]
    usage: str
    suffixes: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    always: tuple[str, ...] = ()
    fixed: dict[str, Any] = field(default_factory=dict)
    square: str = ''
    positions: int = 0
    remark: str = ''
    left_out: dict[str, str] = field(default_factory=dict)
    added: dict[str, Tensor] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Describe what weights lose and gain; empty words mean nothing."""
        notes = [f'left out: {what}' for what in self.left_out.values()]
        for name, tensor in self.added.items():
            part = part_of(name)
            if part and tensor.numel():
                value = 'ones' if tensor.all() else 'zeros'
                notes.append(f'added, without effect: {part.title} of {value}')
        return [*dict.fromkeys(notes), *([self.remark] if self.remark else [])]

    def lacks(self, vit: Architecture) -> list[str]:
        """Say what the ViT has, or is, that the network cannot be."""
        has = {name: bool(vit.values[name]) for name in BY_NAME}
        found = [BY_NAME[n].title for n in self.without if has[n] and n != 'mask_token']
        for name in self.always:
            if not has[name] and name not in _NEUTRAL:
                found.append(f'no {BY_NAME[name].title.removeprefix("a ")}')
        for name, value in self.fixed.items():
            if vit.values[name] != value:
                words = 'norms with an eps of {}' if name == 'norm_eps' else 'the activation {}'
                found.append(f'{words.format(vit.values[name])}, not {value}')
        if self.square and len(set(vit.patch_size)) > 1:
            found.append('patches that are not square')
        if self.square == 'all' and len(set(vit.img_size)) > 1:
            found.append('a position embedding that is not square')
        return found


@dataclass(frozen=True)
class Export:
    """Weights for a network of another library, complete, under its names."""

    target: Target
    weights: dict[str, Tensor]


# Our names, and values per channel, of parts without effect.
_NEUTRAL: dict[str, tuple[tuple[str, ...], Callable[[int], Tensor]]] = {
    'layer_scale': (BY_NAME['layer_scale'].parameters, torch.ones),
    'patch_bias': (BY_NAME['patch_bias'].parameters, torch.zeros),
    'mask_token': (('mask_token',), lambda width: torch.zeros(1, 1, width)),
    'num_registers': (('register_tokens',), lambda width: torch.zeros(1, 0, width)),
}


def express_vit(
    state_dict: Mapping[str, Tensor], vit: Architecture, target: Target, library: str
) -> Export:
    """Give the weights of a ViT the names and form of a network; values stay, bit by bit.

    Raises:
        CheckpointError: If the network lacks a part.
    """
    if lacks := target.lacks(vit):
        raise CheckpointError(
            f'{target.title} cannot hold these weights, which have {", ".join(lacks)}. '
            f'Export them for another library than {library}.'
        )
    state = dict(state_dict)
    if 'mask_token' in target.without and state.pop('mask_token', None) is not None:
        target.left_out['mask_token'] = MASK_TOKEN
    if target.positions and 'pos_embed' in state:
        before, patches = state['pos_embed'].tensor_split([int('cls_token' in state)], dim=1)
        zeros = patches.new_zeros(1, target.positions, patches.shape[2])
        state['pos_embed'] = torch.cat([before, zeros, patches], dim=1)
    for part in (part for part in target.always if not vit.values[part]):
        names, value = _NEUTRAL[part]
        for name in names:
            layers = range(vit.num_layers if '{layer}' in name else 1)
            target.added |= {name.format(layer=i): value(vit.embed_dims) for i in layers}
    dtype = state[PATCHES].dtype
    state |= {name: tensor.to(dtype) for name, tensor in target.added.items()}
    return Export(target, express(state, target.format))


def _mmpretrain(vit: Architecture) -> Target:
    own = ('mask_token', 'num_registers', 'rotary')  # arguments of our class alone
    options = {name: value for name, value in vit.options().items() if name not in own}
    options = dict(patch_cfg=dict(padding=0)) | options | dict(out_type='raw')
    return Target(
        title="mmpretrain's VisionTransformer",
        format=MMPRETRAIN,
        options=options,
        usage=call('dict', type='mmpretrain.VisionTransformer', **options)[:-1]
        + ", init_cfg=dict(type='Pretrained', checkpoint=FILE))",
        suffixes=('.pth',),
        without=own,
    )


def _timm(vit: Architecture) -> Target:
    """``VisionTransformer``, or ``Eva`` in the form of DINOv3 for rotary positions."""
    options: dict[str, Any] = dict(
        patch_size=single(vit.patch_size),
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
    name, packed = ('vit_giant_patch14_dinov2', 2) if vit.gated else ('vit_base_patch16_224', 1)
    without, always = ['mask_token'], ['layer_scale'] if vit.gated else []
    if vit.rotary:
        # Attention 'rope', since that of EVA knows no bias of keys.
        name, packed = 'vit_base_patch16_dinov3', 1
        options |= dict(attn_type='rope', num_reg_tokens=vit.num_registers, swiglu_mlp=vit.gated)
        without, always = [*without, 'pre_norm'], ['layer_scale', 'final_norm']
    else:
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
    # A norm before the layers takes the place of the bias.
    (without if vit.pre_norm else always).append('patch_bias')
    return Target(
        title="timm's Eva" if vit.rotary else "timm's VisionTransformer",
        format=TIMM_DINOV3 if vit.rotary else TIMM,
        options=dict(model_name=name) | options,
        usage=call('timm.create_model', name, **options)[:-1] + ', checkpoint_path=FILE)',
        suffixes=('.safetensors', '.pth'),
        without=tuple(without),
        always=tuple(always),
        positions=0 if vit.rotary else vit.num_registers,
    )


def _published(vit: Architecture) -> Target:
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
    return Target(
        title="the published iBOT's VisionTransformer",
        format=PUBLISHED,
        options=options,
        usage=call('models.vision_transformer.VisionTransformer', **options)
        + ".load_state_dict(torch.load(FILE)['state_dict'])",
        suffixes=('.pth',),
        without=('num_registers', 'rotary', 'gated', 'pre_norm'),
        always=('final_norm', 'cls_token', 'patch_bias'),
        fixed=dict(norm_eps=EPS) | ({} if vit.gated else dict(activation='gelu')),
        square='all',
    )


def _huggingface(vit: Architecture) -> Target:
    """``ViTModel`` of transformers; ``Dinov2Model`` and the like where parts ask for it."""
    config: dict[str, Any] = dict(
        hidden_size=vit.embed_dims,
        num_hidden_layers=vit.num_layers,
        num_attention_heads=vit.num_heads,
        image_size=single(vit.img_size),
        patch_size=vit.patch_size[0],
        num_channels=vit.in_channels,
        layer_norm_eps=vit.norm_eps,
        hidden_act='gelu_pytorch_tanh' if vit.activation == 'gelu_tanh' else vit.activation,
    )
    always, square = ['final_norm', 'cls_token', 'layer_scale', 'patch_bias'], 'patches'
    if vit.rotary:
        kind, format = 'DINOv3ViT', HF_DINOV3
        config |= dict(model_type='dinov3_vit', intermediate_size=vit.hidden, rope_theta=100.0)
        config |= dict(num_register_tokens=vit.num_registers, use_gated_mlp=vit.gated)
        config |= dict.fromkeys(('query_bias', 'key_bias', 'value_bias'), vit.qkv_bias)
        config |= dict(hidden_act='silu') if vit.gated else {}
        always += ['num_registers', 'mask_token']
    elif vit.num_registers or vit.layer_scale or vit.gated:
        kind, format, square = 'Dinov2', HF_DINOV2, 'all'
        # Its SwiGLU has two thirds of these, rounded up to a multiple of 8.
        hidden = vit.hidden * 3 // 2 if vit.gated else vit.hidden
        config |= dict(model_type='dinov2', qkv_bias=vit.qkv_bias, use_swiglu_ffn=vit.gated)
        config |= dict(mlp_ratio=_ratio(hidden, vit.embed_dims))
        if vit.num_registers:
            kind, config['model_type'] = 'Dinov2WithRegisters', 'dinov2_with_registers'
            config['num_register_tokens'] = vit.num_registers
            always.append('mask_token')
        else:
            config['use_mask_token'] = vit.mask_token
    else:
        kind, format = 'ViT', HF_VIT
        config |= dict(model_type='vit', intermediate_size=vit.hidden, qkv_bias=vit.qkv_bias)
        always.remove('layer_scale')
    config['architectures'] = [f'{kind}Model']
    pooling = ', add_pooling_layer=False' if kind == 'ViT' else ''
    return Target(
        title=f"transformers' {kind}Model",
        format=format,
        options=config,
        usage=f'transformers.{kind}Model.from_pretrained(FILE{pooling})',
        without=('pre_norm', 'mask_token') if kind == 'ViT' else ('pre_norm',),
        always=tuple(always),
        square=square,
    )


LIBRARIES: dict[str, Callable[[Architecture], Target]] = {
    'mmpretrain': _mmpretrain,
    'timm': _timm,
    'published': _published,
    'huggingface': _huggingface,
}


def call(function: str, *args: Any, **options: Any) -> str:
    """Write a call as one would write it by hand."""

    def written(value: Any) -> str:
        if isinstance(value, partial):
            return f'partial(nn.LayerNorm, eps={value.keywords["eps"]})'
        return repr(value)

    words = [repr(value) for value in args]
    words += [f'{name}={written(value)}' for name, value in options.items()]
    return f'{function}({", ".join(words)})'


def _ratio(hidden: int, width: int) -> float:
    """Find the ratio from which ``int(width * ratio)`` gives the hidden channels."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)
