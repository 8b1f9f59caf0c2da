# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a ViT can have or be: each part once, and how it is known, told and set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .convert import PATCHES, num_layers
from .locate import CheckpointError
from .names import ROTARY, match
from .unseen import (
    EPS,
    activation_name,
    activation_of_config,
    activation_of_module,
    eps_of_config,
    rotary_of_json,
    rotary_of_timm,
)

State = Mapping[str, Tensor]
Reader = Callable[[Any], Any] | None
FIRST = 'layers.0.'
ACTIVATIONS: dict[str, dict[str, Any]] = {
    'gelu': dict(type='GELU'),
    'gelu_tanh': dict(type='GELU', approximate='tanh'),
    'quick_gelu': dict(type='mmpretrain.QuickGELU'),
    'relu': dict(type='ReLU'),
}


@dataclass(frozen=True)
class Part:
    """One thing that a ViT can have or be.

    Args:
        name: Attribute of :class:`ibot_mm.checkpoint.Architecture`, and the key by which it is
            told where nothing else tells it.
        title: What it is, for messages.
        tensors: Reads it off weights under our names; None where they do not show it.
        module: Reads it off a backbone with mmpretrain's parts.
        timm: Reads it off a model of timm.
        json: Reads it off Hugging Face's ``config.json``.
        config: Reads it off the config of a backbone of mmpretrain or ours.
        option: Arguments of our backbone that make it so.
        default: What those arguments are when left out, or a function of the architecture.
        parameters: Templates of its parameters' names.
        kind: Types of its value, where it is told.
        size: Whether it is a number that must be equal, rather than something present or not.
        may_drop: Whether a backbone may do without it, leaving parameters of the checkpoint out.
        may_start_new: Whether a backbone may have it anew.
        advice: What to do where the checkpoint has it, if not to set the option; ``{number}`` is
            the value.
        lacking: What to do where the backbone has it and the checkpoint does not, if not to set
            the option; empty where another part says it.
        words: Of the report, with and without it; ``{number}`` is the value.
    """

    name: str
    title: str
    tensors: Callable[[State], Any] | None = None
    module: Reader = None
    timm: Reader = None
    json: Reader = None
    config: Reader = None
    option: Callable[[Any], dict[str, Any]] | None = None
    default: Any = None
    parameters: tuple[str, ...] = ()
    kind: type | tuple[type, ...] = str
    size: bool = False
    may_drop: bool = False
    may_start_new: bool = False
    advice: str = ''
    lacking: str | None = None
    words: tuple[str, str] = ('', '')

    def allows(self, value: Any) -> bool:
        """Tell whether a told value can be the part's."""
        is_kind = isinstance(value, self.kind) and isinstance(value, bool) == (self.kind is bool)
        return is_kind and (isinstance(value, (bool, str)) or value > 0)

    def usual(self, architecture: Any) -> Any:
        """Say what the arguments of our backbone, left out, make of the part."""
        return self.default(architecture) if callable(self.default) else self.default


def _has(name: str) -> Callable[[State], bool]:
    return lambda state: name in state


def _length(name: str) -> Callable[[State], int]:
    return lambda state: state[name].shape[1] if name in state else 0


def _hidden(state: State) -> int:
    name = f'{FIRST}ffn.w3.weight' if f'{FIRST}ffn.w3.weight' in state else _SECOND
    if name not in state:
        raise CheckpointError(f"it is not complete, it lacks '{name}'")
    return state[name].shape[1]


def _has_layer_norms(state: State) -> bool:
    """Whether a norm of a layer has a bias, which RMSNorm does not have."""
    norms = [name for name in state if name.startswith('layers.') and '.ln' in name]
    return not norms or any(name.endswith('bias') for name in norms)


_SECOND = f'{FIRST}ffn.layers.1.weight'
_PLAIN = ('layers.{layer}.ffn.layers.0.0.{leaf}', 'layers.{layer}.ffn.layers.1.{leaf}')
_GATED = ('layers.{layer}.ffn.w12.{leaf}', 'layers.{layer}.ffn.w3.{leaf}')

PARTS = (
    Part(
        'num_layers', 'number of layers', num_layers, size=True,
        option=lambda a: dict(arch=dict(num_layers=a.num_layers)),
        advice='set num_layers={number} in arch, or take weights of another size',
    ),
    Part(
        'embed_dims', 'channels', lambda state: state[PATCHES].shape[0], size=True,
        option=lambda a: dict(arch=dict(embed_dims=a.embed_dims)),
        advice='set embed_dims={number} in arch, or take weights of another size',
    ),
    Part(
        'in_channels', 'channels of images', lambda state: state[PATCHES].shape[1], size=True,
        option=lambda a: dict(in_channels=a.in_channels), default=3,
        advice="set in_channels={number}, or inflate='mean' of ibot_mm.Pretrained, or a list that "
        'says what each channel starts from',
    ),
    Part('patch_size', 'patch size', lambda state: tuple(state[PATCHES].shape[2:])),
    Part(
        'hidden', 'hidden channels of the feed-forward network', _hidden, size=True,
        # mmpretrain's SwiGLU takes two thirds of the number that it is given.
        option=lambda a: dict(
            arch=dict(feedforward_channels=-(-a.hidden * 3 // 2) if a.gated else a.hidden)
        ),
    ),
    Part(
        'num_heads', 'attention heads', kind=int,
        module=lambda m: m.layers[0].attn.num_heads,
        timm=lambda m: m.blocks[0].attn.num_heads,
        json=lambda c: c.get('num_attention_heads'),
        config=lambda c: (c.get('arch') or c)['num_heads'],
        option=lambda a: dict(arch=dict(num_heads=a.num_heads)),
    ),
    Part(
        'grid', 'patches of the learned position embedding', parameters=('pos_embed',),
    ),
    Part(
        'relative', 'a relative position bias',
        lambda state: any(name.endswith('relative_position_bias_table') for name in state),
    ),
    Part(
        'rotary', 'rotary position embedding',
        module=lambda m: ROTARY if getattr(m, 'rotary', False) else '',
        timm=rotary_of_timm, json=rotary_of_json,
        config=lambda c: ROTARY if c.get('rotary', not c['type']) else '',
        option=lambda a: dict(rotary=True), default='',
    ),
    Part(
        'layer_scale', 'layer scale', _has(f'{FIRST}attn.gamma1.weight'),
        option=lambda a: dict(layer_scale_init_value=1e-5 if a.layer_scale else 0.0),
        default=False, words=('layer scale', ''),
        parameters=('layers.{layer}.attn.gamma1.weight', 'layers.{layer}.ffn.gamma2.weight'),
    ),
    Part(
        'num_registers', 'register tokens', _length('register_tokens'), size=True,
        option=lambda a: dict(num_registers=a.num_registers), default=0,
        parameters=('register_tokens',), words=('{number} registers', ''),
        advice="set num_registers={number} (an option of ibot_mm's backbones)",
    ),
    Part(
        'mask_token', 'a mask token', _has('mask_token'), parameters=('mask_token',),
        may_drop=True, may_start_new=True, words=('mask token', ''),
    ),
    Part(
        'dist_token', 'a distillation token (DeiT)', _has('dist_token'),
        parameters=('dist_token',), words=('distillation token', ''), default=False,
        advice='take weights without distillation, or mmpretrain.DistilledVisionTransformer as '
        'backbone',
        lacking='take weights with distillation, or mmpretrain.VisionTransformer as backbone',
    ),
    Part(
        'gated', 'a gated feed-forward network (SwiGLU)', _has(f'{FIRST}ffn.w3.weight'),
        option=lambda a: dict(
            layer_cfgs=dict(ffn_type='swiglu_fused' if a.gated else 'origin')
        ),
        default=False, parameters=_GATED, lacking='', words=('SwiGLU', ''),
    ),
    Part(
        'plain', 'a plain feed-forward network', _has(_SECOND), parameters=_PLAIN, lacking='',
        advice="set layer_cfgs=dict(ffn_type='origin')",
    ),
    Part(
        'activation', 'activation of the feed-forward network',
        module=activation_of_module,
        timm=lambda m: activation_name(m.blocks[0].mlp.act),
        json=lambda c: activation_name(c['hidden_act']),
        config=activation_of_config,
        option=lambda a: dict(layer_cfgs=dict(act_cfg=ACTIVATIONS.get(a.activation))),
        default=lambda a: 'silu' if a.gated else 'gelu',
    ),
    Part(
        'pre_norm', 'a norm before the layers', _has('pre_norm.weight'),
        option=lambda a: dict(pre_norm=a.pre_norm), default=False,
        parameters=('pre_norm.{leaf}',), words=('norm before the layers', ''),
    ),
    Part(
        'cls_token', 'a [CLS] token', _has('cls_token'), parameters=('cls_token',),
        option=lambda a: dict(with_cls_token=a.cls_token), default=True, may_drop=True,
        words=('', 'no [CLS] token'),
    ),
    Part(
        'final_norm', 'a final norm', _has('ln1.weight'), parameters=('ln1.{leaf}',),
        option=lambda a: dict(final_norm=a.final_norm), default=True, may_drop=True,
        words=('', 'no final norm'),
    ),
    Part(
        'mean_norm', 'a norm of the mean of the patches', _has('ln2.weight'),
        parameters=('ln2.{leaf}',), may_drop=True, may_start_new=True,
    ),
    Part(
        'qkv_bias', 'biases of queries and values', _has(f'{FIRST}attn.qkv.bias'),
        option=lambda a: dict(qkv_bias=a.qkv_bias), default=True,
        parameters=('layers.{layer}.attn.qkv.bias',),
        words=('', 'no biases of queries, keys and values'),
    ),
    Part(
        'patch_bias', 'a bias of the patch embedding', _has('patch_embed.projection.bias'),
        option=lambda a: dict(patch_cfg=dict(bias=a.patch_bias)), default=lambda a: not a.pre_norm,
        parameters=('patch_embed.projection.bias',),
        advice='set patch_cfg=dict(bias=True) (of mmseg patch_bias=True)',
    ),
    Part('layer_norm', 'norms with biases', _has_layer_norms),
    Part(
        'post_norm', 'norms after the branches', kind=bool, module=lambda m: False,
        timm=lambda m: 'Post' in type(m.blocks[0]).__name__, config=lambda c: not c['type'],
        default=False, advice='every backbone here has them before the branches',
    ),
    Part(
        'norm_eps', 'eps of norms', kind=(int, float),
        module=lambda m: m.layers[0].ln1.eps, timm=lambda m: m.blocks[0].norm1.eps,
        json=lambda c: c.get('layer_norm_eps'),
        config=eps_of_config,
        option=lambda a: dict(norm_cfg=dict(type='LN', eps=a.norm_eps)), default=EPS,
    ),
)  # fmt: skip
BY_NAME = {part.name: part for part in PARTS}
UNSEEN = tuple(part for part in PARTS if part.module)  # which tensors do not show


def part_of(name: str) -> Part | None:
    """Find the part that a parameter, by our name, belongs to; None for what every ViT has."""
    found = (
        p for p in PARTS if any(match(template, name) is not None for template in p.parameters)
    )
    return next(found, None)
