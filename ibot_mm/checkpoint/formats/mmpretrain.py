# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of this project and of mmpretrain."""

from .table import Format, Row

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
    with_positions=(('cls_token', 'dist_token'), ()),  # none in mmpretrain's DeiT III
    rotary=True,
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
