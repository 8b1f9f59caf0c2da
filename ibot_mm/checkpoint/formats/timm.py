# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of timm, and of published code that grew out of it."""

from collections.abc import Collection

from ..names import ROTARY, Format, MaskedKeyBias, Row, Rule

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
_OF_DINOV3 = (Rule('rotary', ROTARY), Rule('norm_eps', 1e-5))


def _has_pooling(names: Collection[str]) -> bool:
    return any(name.startswith('attn_pool.') for name in names)


def _is_of_language(names: Collection[str]) -> bool:
    """Whether a network has what those have that are trained with text: CLIP and SigLIP."""
    signs = 'pre_norm.weight' in names or 'cls_token' not in names or _has_pooling(names)
    return signs and 'layers.0.ffn.w3.weight' not in names


def _looks_like_rope_vit(names: Collection[str]) -> bool:
    of_training = {'mask_token', *(n for n in names if {'teacher', 'student'} & {*n.split('.')})}
    scaled = 'layers.0.attn.gamma1.weight' in names and 'pos_embed' in names
    relative = any(name.endswith('relative_position_bias_table') for name in names)
    return scaled and not relative and of_training.isdisjoint(names)


def _has_no_scale(names: Collection[str]) -> bool:
    relative = any(name.endswith('relative_position_bias_table') for name in names)
    return 'layers.0.attn.gamma1.weight' not in names and not relative


_MAY_BE_ROTARY = Rule(
    'rotary',
    None,
    _looks_like_rope_vit,
    "timm's RoPE-ViTs (vit_*_rope_ape_*) have rotary positions beside learned ones, BEiT and the "
    'published iBOT do not',
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
    rules=(
        Rule('norm_eps', 1e-5, lambda names: 'pre_norm.weight' in names),
        Rule(
            'rotary',
            None,
            lambda names: 'pre_norm.weight' in names and _has_pooling(names),
            "timm's Perception Encoder has rotary positions beside learned ones, CLIP does not",
        ),
        Rule(
            'post_norm',
            None,
            lambda names: {'cls_token', 'pre_norm.weight'}.isdisjoint(names),
            "timm's vit_*_rpn_* have norms after the branches, others without [CLS] before them",
        ),
        Rule(
            'activation',
            None,
            _is_of_language,
            "OpenAI's CLIP and others have quick_gelu, OpenCLIP's gelu, SigLIP's gelu or gelu_tanh",
        ),
    ),
)

PUBLISHED = Format(
    name='published',
    title='the published iBOT',
    rows=(*_TOKENS, Row('masked_embed', 'mask_token', flat=1), _QKV, *_BLOCKS, *_GAMMA),
    left_out=_HEADS,
    rules=(_MAY_BE_ROTARY,),
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
    rules=(
        _MAY_BE_ROTARY,
        Rule(
            'post_norm',
            None,
            _has_no_scale,
            "timm's eva02_enormous_* has norms after the branches, eva_giant_* before them",
        ),
    ),
)

DINOV2 = Format(
    name='DINOv2',
    title='DINOv2, its code',
    rows=(
        *_TOKENS,
        Row('mask_token', 'mask_token', flat=1),
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
    rules=_OF_DINOV3,
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
    requires=('reg_token', 'cls_token'),  # RoPE-ViTs have registers without [CLS]
    rules=_OF_DINOV3,
)
