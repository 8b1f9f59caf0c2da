# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What tensors do not show, read off modules, models of timm, JSON and configs of mm.

A reader raises KeyError, AttributeError and the like where nothing is told.
"""

from typing import Any

from .names import ROTARY

EPS = 1e-6  # of iBOT, DINO, DINOv2, timm


def activation_name(module: Any) -> str:
    """Return our name of an activation: of a module, a function, Hugging Face's or timm's name."""
    if getattr(module, 'approximate', 'none') == 'tanh':
        return 'gelu_tanh'
    name = module if isinstance(module, str) else getattr(module, '__name__', type(module).__name__)
    known = dict(
        gelutanh='gelu_tanh', geluquick='quick_gelu', quickgelu='quick_gelu', gelunew='gelu_tanh',
        gelupytorchtanh='gelu_tanh', swish='silu', gelupython='gelu',
    )  # fmt: skip
    plain = name.lower().replace('_', '').replace('activation', '')
    return known.get(plain, plain)


def activation_of_module(module: Any) -> str:
    """Read the activation off a backbone of mmpretrain or mmseg."""
    ffn = module.layers[0].ffn
    return 'silu' if hasattr(ffn, 'w3') else activation_name(ffn.layers[0][1])


_GRID_OF_DINOV3 = dict(
    grid_offset=0.0, grid_indexing='ij', normalize_coords='separate', rotate_half=True,
    min_period=None,
)  # fmt: skip


def rotary_of_timm(model: Any) -> str:
    """Describe the rotary positions of a model of timm; '' for none."""
    rope = getattr(model, 'rope', None)
    if rope is None:
        return ''
    if type(rope).__name__ == 'RotaryEmbeddingDinoV3':
        for name, usual in _GRID_OF_DINOV3.items():
            if (value := getattr(rope, name, usual)) != usual:
                return f"rotary in the form of timm's {type(rope).__name__} with {name}={value}"
        return _rotary_name(getattr(rope, 'temperature', getattr(rope, 'base', None)))
    return f"rotary in the form of timm's {type(rope).__name__}"


def _rotary_name(base: float | None) -> str:
    """Describe DINOv3's rotary position embedding, by the base of its periods."""
    return ROTARY if base in (None, 100) else f'rotary of base {base:g}, not 100'


def rotary_of_json(config: dict[str, Any]) -> str | None:
    """Describe the rotary positions that Hugging Face's JSON tells of."""
    if config.get('model_type') != 'dinov3_vit':
        return None
    parameters = config.get('rope_parameters') or {}
    return _rotary_name(config.get('rope_theta', parameters.get('rope_theta')))


def eps_of_config(config: dict[str, Any]) -> float:
    """Read the eps of norms off a backbone's config.

    Left out it is 1e-6 in our backbones and mmpretrain's ViTs, torch's 1e-5 in mm's Swins and
    mmseg's ViTs.
    """
    if 'norm_cfg' in config:
        return config['norm_cfg'].get('eps', 1e-5)
    of_mmseg = not {'embed_dims', 'num_layers', 'num_heads'}.isdisjoint(config)
    kind = config['type'].rpartition('.')[2]
    return 1e-5 if of_mmseg or kind == 'SwinTransformer' else EPS


def activation_of_config(config: dict[str, Any]) -> str:
    """Read the activation off a backbone's config."""
    options = config.get('layer_cfgs', dict(ffn_type='origin') if config['type'] else {})
    if options.get('ffn_type') == 'swiglu_fused':
        return 'silu'
    act_cfg = options.get('act_cfg', config.get('act_cfg', dict(type='GELU')))
    tanh = act_cfg.get('approximate') == 'tanh'
    return 'gelu_tanh' if tanh else activation_name(act_cfg['type'].rpartition('.')[2])
