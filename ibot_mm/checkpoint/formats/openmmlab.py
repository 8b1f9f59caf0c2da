# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of this project, mmpretrain and mmseg."""

from collections.abc import Collection

from ..names import ROTARY, Format, Row, Rule

_SAME = (
    'cls_token',
    'dist_token',
    'register_tokens',
    'mask_token',
    'pos_embed',
    'patch_embed.projection.{leaf}',
    'pre_norm.{leaf}',
    'layers.{layer}.ln1.{leaf}',
    'layers.{layer}.attn.proj.{leaf}',
    'layers.{layer}.ln2.{leaf}',
    'layers.{layer}.ffn.layers.0.0.{leaf}',
    'layers.{layer}.ffn.layers.1.{leaf}',
    'layers.{layer}.ffn.w12.{leaf}',
    'layers.{layer}.ffn.w3.{leaf}',
    'ln1.{leaf}',
    'ln2.{leaf}',
    'layers.{layer}.attn.relative_position_bias_table',
    'rel_pos_bias.relative_position_bias_table',
)
_LEFT_OUT = (
    ('*relative_position_index', 'computed, not learned'),
    ('pyramid.*', 'feature pyramid'),
)


def _has_no_positions(names: Collection[str]) -> bool:
    return 'pos_embed' not in names and not any(n.endswith('position_bias_table') for n in names)


MMPRETRAIN = Format(
    name='mmpretrain',
    title='ibot_mm and mmpretrain',
    rows=(
        *(Row(name, name) for name in _SAME),
        Row('layers.{layer}.attn.qkv.{leaf}', 'layers.{layer}.attn.qkv.{leaf}'),
        Row('layers.{layer}.attn.gamma1.weight', 'layers.{layer}.attn.gamma1.weight'),
        Row('layers.{layer}.ffn.gamma2.weight', 'layers.{layer}.ffn.gamma2.weight'),
    ),
    left_out=_LEFT_OUT,
    rules=(Rule('rotary', ROTARY, _has_no_positions),),
)

MMPRETRAIN_BEIT = Format(
    name='mmpretrain BEiT',
    title="mmpretrain's BEiTViT",
    rows=(
        *(Row(name, name) for name in _SAME),
        Row('layers.{layer}.attn.qkv.{leaf}', 'layers.{layer}.attn.qkv.{leaf}'),
        Row(
            (
                'layers.{layer}.attn.q_bias',
                'layers.{layer}.attn.k_bias',  # not in the network: a bias of keys has no effect
                'layers.{layer}.attn.v_bias',
            ),
            'layers.{layer}.attn.qkv.bias',
        ),
        Row('layers.{layer}.gamma_1', 'layers.{layer}.attn.gamma1.weight'),
        Row('layers.{layer}.gamma_2', 'layers.{layer}.ffn.gamma2.weight'),
    ),
    left_out=_LEFT_OUT,
)

MMSEG = Format(
    name='mmseg',
    title="mmseg's VisionTransformer",
    rows=(
        *(Row(name, name) for name in _SAME if '.attn.' not in name),
        Row('layers.{layer}.attn.attn.in_proj_weight', 'layers.{layer}.attn.qkv.weight'),
        Row('layers.{layer}.attn.attn.in_proj_bias', 'layers.{layer}.attn.qkv.bias'),
        Row('layers.{layer}.attn.attn.out_proj.{leaf}', 'layers.{layer}.attn.proj.{leaf}'),
    ),
    left_out=_LEFT_OUT,
)
