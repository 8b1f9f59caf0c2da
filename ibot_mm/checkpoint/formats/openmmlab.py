# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of this project, mmpretrain and mmseg."""

from collections.abc import Collection

from ..names import COMPUTED, ROTARY, Format, Row, Rule, Table, rows

_TABLE = 'relative_position_bias_table'
_SAME = (
    *('cls_token', 'dist_token', 'register_tokens', 'mask_token', 'pos_embed'),
    *('patch_embed.projection.*', 'pre_norm.*', 'ln1.*', 'ln2.*', f'rel_pos_bias.{_TABLE}'),
)
_SAME_IN_LAYERS = (
    *('ln1.*', 'ln2.*', f'attn.{_TABLE}'),
    *('ffn.layers.0.0.*', 'ffn.layers.1.*', 'ffn.w12.*', 'ffn.w3.*'),
)
_ATTENTION = {'attn.qkv.*': 'attn.qkv.*', 'attn.proj.*': 'attn.proj.*'}


def _rows(table: Table) -> tuple[Row, ...]:
    """Rows of what all have, and the given ones of layers."""
    in_layers = {**{name: name for name in _SAME_IN_LAYERS}, **table}
    return rows({name: name for name in _SAME}) + rows(
        in_layers, 'layers.{layer}.', 'layers.{layer}.'
    )


_LEFT_OUT = (
    ('*relative_position_index', COMPUTED),
    ('pyramid.*', 'feature pyramid'),
)


def _has_no_positions(names: Collection[str]) -> bool:
    return 'pos_embed' not in names and not any(n.endswith('position_bias_table') for n in names)


MMPRETRAIN = Format(
    name='mmpretrain',
    title='ibot_mm and mmpretrain',
    rows=_rows(
        {
            **_ATTENTION,
            'attn.gamma1.weight': 'attn.gamma1.weight',
            'ffn.gamma2.weight': 'ffn.gamma2.weight',
        }
    ),
    left_out=_LEFT_OUT,
    rules=(Rule('rotary', ROTARY, _has_no_positions),),
)

MMPRETRAIN_BEIT = Format(
    name='mmpretrain BEiT',
    title="mmpretrain's BEiTViT",
    rows=_rows(
        {
            **_ATTENTION,
            # A bias of keys is not in the network, since it has no effect.
            ('attn.q_bias', 'attn.k_bias', 'attn.v_bias'): 'attn.qkv.bias',
            'gamma_1': 'attn.gamma1.weight',
            'gamma_2': 'ffn.gamma2.weight',
        }
    ),
    left_out=_LEFT_OUT,
)

MMSEG = Format(
    name='mmseg',
    title="mmseg's VisionTransformer",
    rows=_rows(
        {
            'attn.attn.in_proj_weight': 'attn.qkv.weight',
            'attn.attn.in_proj_bias': 'attn.qkv.bias',
            'attn.attn.out_proj.*': 'attn.proj.*',
        }
    ),
    left_out=_LEFT_OUT,
)
