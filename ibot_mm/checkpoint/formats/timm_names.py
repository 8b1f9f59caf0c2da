# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of timm, and of published code that grew out of it."""

from .table import Format, MaskedKeyBias, Row

_TOKENS = (
    Row('cls_token', 'cls_token'),
    Row('pos_embed', 'pos_embed'),
    Row('patch_embed.proj.{leaf}', 'patch_embed.projection.{leaf}'),
)
_QKV = Row('blocks.{layer}.attn.qkv.{leaf}', 'layers.{layer}.attn.qkv.{leaf}')
_QV_BIAS = Row(
    (
        'blocks.{layer}.attn.q_bias',
        'blocks.{layer}.attn.k_bias',  # not in the file, being zero
        'blocks.{layer}.attn.v_bias',
    ),
    'layers.{layer}.attn.qkv.bias',
)
_BLOCKS = (
    Row('blocks.{layer}.norm1.{leaf}', 'layers.{layer}.ln1.{leaf}'),
    Row('blocks.{layer}.attn.proj.{leaf}', 'layers.{layer}.attn.proj.{leaf}'),
    Row('blocks.{layer}.norm2.{leaf}', 'layers.{layer}.ln2.{leaf}'),
    Row('blocks.{layer}.mlp.fc1.{leaf}', 'layers.{layer}.ffn.layers.0.0.{leaf}'),
    Row('blocks.{layer}.mlp.fc2.{leaf}', 'layers.{layer}.ffn.layers.1.{leaf}'),
    Row('norm.{leaf}', 'ln1.{leaf}'),
    Row('fc_norm.{leaf}', 'ln2.{leaf}'),
)
_GATED = (
    Row('blocks.{layer}.mlp.fc1.{leaf}', 'layers.{layer}.ffn.w12.{leaf}'),
    Row(
        ('blocks.{layer}.mlp.fc1_g.{leaf}', 'blocks.{layer}.mlp.fc1_x.{leaf}'),
        'layers.{layer}.ffn.w12.{leaf}',
    ),
    Row('blocks.{layer}.mlp.fc2.{leaf}', 'layers.{layer}.ffn.w3.{leaf}'),
)
_GAMMA = (
    Row('blocks.{layer}.gamma_1', 'layers.{layer}.attn.gamma1.weight'),
    Row('blocks.{layer}.gamma_2', 'layers.{layer}.ffn.gamma2.weight'),
)
_LAYER_SCALE = (
    Row('blocks.{layer}.ls1.gamma', 'layers.{layer}.attn.gamma1.weight'),
    Row('blocks.{layer}.ls2.gamma', 'layers.{layer}.ffn.gamma2.weight'),
)
_HEADS = (
    ('head.*', 'classification head'),
    ('head_dist.*', 'classification head'),
    ('attn_pool.*', 'pooling head'),
)

TIMM = Format(
    name='timm',
    title='timm, and the code of DINO, iBOT, DeiT and MAE',
    rows=(
        *_TOKENS,
        Row('reg_token', 'register_tokens'),
        Row('dist_token', 'dist_token'),
        Row('norm_pre.{leaf}', 'pre_norm.{leaf}'),
        _QKV,
        *_BLOCKS,
        *_LAYER_SCALE,
    ),
    gated_rows=_GATED,
    left_out=_HEADS,
    with_positions=(('cls_token', 'dist_token', 'register_tokens'), ()),
)

PUBLISHED = Format(
    name='published',
    title='the published iBOT',
    rows=(*_TOKENS, Row('masked_embed', 'mask_token', flat=True), _QKV, *_BLOCKS, *_GAMMA),
    left_out=_HEADS,
)

MAE = Format(
    name='MAE',
    title='MAE with its decoder',
    rows=(*_TOKENS, _QKV, *_BLOCKS),
    left_out=(('decoder_*', 'decoder'), ('mask_token', "the decoder's mask token")),
)

BEIT = Format(
    name='BEiT',
    title='BEiT, its code and timm',
    rows=(
        *_TOKENS,
        Row('mask_token', 'mask_token'),
        _QKV,
        _QV_BIAS,
        *_BLOCKS,
        *_GAMMA,
        Row(
            'blocks.{layer}.attn.relative_position_bias_table',
            'layers.{layer}.attn.relative_position_bias_table',
        ),
        Row(
            'rel_pos_bias.relative_position_bias_table',
            'rel_pos_bias.relative_position_bias_table',
        ),
    ),
    left_out=(
        *_HEADS,
        ('lm_head.*', 'prediction head'),
        ('cls_pt_layers.*', 'prediction head'),
        ('*relative_position_index', 'computed, not learned'),
    ),
)

DINOV2 = Format(
    name='DINOv2',
    title='DINOv2, its code',
    rows=(
        *_TOKENS,
        Row('mask_token', 'mask_token', flat=True),
        Row('register_tokens', 'register_tokens'),
        _QKV,
        *_BLOCKS,
        *_LAYER_SCALE,
        Row('blocks.{layer}.mlp.w12.{leaf}', 'layers.{layer}.ffn.w12.{leaf}'),
        Row('blocks.{layer}.mlp.w3.{leaf}', 'layers.{layer}.ffn.w3.{leaf}'),
    ),
    left_out=_HEADS,
)

DINOV3 = Format(
    name='DINOv3',
    title='DINOv3, its code',
    rows=(
        *_TOKENS,
        Row('mask_token', 'mask_token'),
        Row('storage_tokens', 'register_tokens'),
        Row('blocks.{layer}.attn.qkv.weight', 'layers.{layer}.attn.qkv.weight'),
        Row(
            ('blocks.{layer}.attn.qkv.bias', 'blocks.{layer}.attn.qkv.bias_mask'),
            'layers.{layer}.attn.qkv.bias',
            MaskedKeyBias,
        ),
        *_BLOCKS,
        *_LAYER_SCALE,
        Row(
            ('blocks.{layer}.mlp.w1.{leaf}', 'blocks.{layer}.mlp.w2.{leaf}'),
            'layers.{layer}.ffn.w12.{leaf}',
        ),
        Row('blocks.{layer}.mlp.w3.{leaf}', 'layers.{layer}.ffn.w3.{leaf}'),
    ),
    left_out=(
        *_HEADS,
        ('rope_embed.periods', 'computed, not learned'),
        ('local_cls_norm.*', 'norm of local crops in pre-training'),
    ),
    rotary=True,
    norm_eps=1e-5,
)

TIMM_DINOV3 = Format(
    name='timm DINOv3',
    title="timm's DINOv3",
    rows=(
        *_TOKENS,
        Row('reg_token', 'register_tokens'),
        _QKV,
        _QV_BIAS,
        *_BLOCKS,
        *_GAMMA,
    ),
    gated_rows=_GATED,
    left_out=_HEADS,
    requires=('reg_token',),
    rotary=True,
    norm_eps=1e-5,
)
