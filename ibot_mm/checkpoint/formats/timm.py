# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of timm, and of published code that grew out of it."""

from collections.abc import Collection

from ..names import COMPUTED, ROTARY, Concatenation, Format, MaskedKeyBias, Row, Rule, Table, rows


def _layers(table: Table, parts: type[Concatenation] = Concatenation) -> tuple[Row, ...]:
    return rows(table, 'blocks.{layer}.', 'layers.{layer}.', parts)


_TOKENS = rows(
    {
        'cls_token': 'cls_token',
        'pos_embed': 'pos_embed',
        'patch_embed.proj.*': 'patch_embed.projection.*',
    }
)
_QKV = _layers({'attn.qkv.*': 'attn.qkv.*'})
# A bias of keys is not in the file, being zero.
_QV_BIAS = _layers({('attn.q_bias', 'attn.k_bias', 'attn.v_bias'): 'attn.qkv.bias'})
_BLOCKS = _layers(
    {
        'norm1.*': 'ln1.*',
        'attn.proj.*': 'attn.proj.*',
        'norm2.*': 'ln2.*',
        'mlp.fc1.*': 'ffn.layers.0.0.*',
        'mlp.fc2.*': 'ffn.layers.1.*',
    }
) + rows({'norm.*': 'ln1.*', 'fc_norm.*': 'ln2.*'})
_GATED = _layers(
    {
        'mlp.fc1.*': 'ffn.w12.*',
        ('mlp.fc1_g.*', 'mlp.fc1_x.*'): 'ffn.w12.*',
        'mlp.fc2.*': 'ffn.w3.*',
    }
)
_GAMMA = _layers({'gamma_1': 'attn.gamma1.weight', 'gamma_2': 'ffn.gamma2.weight'})
_LAYER_SCALE = _layers({'ls1.gamma': 'attn.gamma1.weight', 'ls2.gamma': 'ffn.gamma2.weight'})
_TABLE = 'relative_position_bias_table'
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
        *rows({'reg_token': 'register_tokens', 'dist_token': 'dist_token'}),
        *rows({'norm_pre.*': 'pre_norm.*'}),
        *(*_QKV, *_BLOCKS, *_LAYER_SCALE),
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
    rows=_TOKENS + rows({'masked_embed': 'mask_token[0]'}) + _QKV + _BLOCKS + _GAMMA,
    left_out=_HEADS,
    rules=(_MAY_BE_ROTARY,),
)

MAE = Format(
    name='MAE',
    title='MAE with its decoder',
    rows=_TOKENS + _QKV + _BLOCKS,
    left_out=(('decoder_*', 'decoder'), ('mask_token', "the decoder's mask token")),
)

BEIT = Format(
    name='BEiT',
    title='BEiT, its code and timm',
    rows=(
        *_TOKENS,
        *rows({'mask_token': 'mask_token'}),
        *(*_QKV, *_QV_BIAS, *_BLOCKS, *_GAMMA),
        *_layers({f'attn.{_TABLE}': f'attn.{_TABLE}'}),
        *rows({f'rel_pos_bias.{_TABLE}': f'rel_pos_bias.{_TABLE}'}),
    ),
    left_out=(
        *_HEADS,
        ('lm_head.*', 'prediction head'),
        ('cls_pt_layers.*', 'prediction head'),
        ('*relative_position_index', COMPUTED),
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
        *rows({'mask_token': 'mask_token[0]', 'register_tokens': 'register_tokens'}),
        *(*_QKV, *_BLOCKS, *_LAYER_SCALE),
        *_layers({'mlp.w12.*': 'ffn.w12.*', 'mlp.w3.*': 'ffn.w3.*'}),
    ),
    left_out=_HEADS,
)

DINOV3 = Format(
    name='DINOv3',
    title='DINOv3, its code',
    rows=(
        *_TOKENS,
        *rows({'mask_token': 'mask_token', 'storage_tokens': 'register_tokens'}),
        *_layers({'attn.qkv.weight': 'attn.qkv.weight'}),
        *_layers({('attn.qkv.bias', 'attn.qkv.bias_mask'): 'attn.qkv.bias'}, MaskedKeyBias),
        *(*_BLOCKS, *_LAYER_SCALE),
        *_layers({('mlp.w1.*', 'mlp.w2.*'): 'ffn.w12.*', 'mlp.w3.*': 'ffn.w3.*'}),
    ),
    left_out=(
        *_HEADS,
        ('rope_embed.periods', COMPUTED),
        ('local_cls_norm.*', 'norm of local crops in pre-training'),
    ),
    rules=_OF_DINOV3,
)

TIMM_DINOV3 = Format(
    name='timm DINOv3',
    title="timm's DINOv3",
    rows=_TOKENS + rows({'reg_token': 'register_tokens'}) + (*_QKV, *_QV_BIAS, *_BLOCKS, *_GAMMA),
    gated_rows=_GATED,
    left_out=_HEADS,
    requires=('reg_token', 'cls_token'),  # RoPE-ViTs have registers without [CLS]
    rules=_OF_DINOV3,
)
