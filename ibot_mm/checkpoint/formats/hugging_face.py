# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of Hugging Face's transformers.

Version 5 gave several models other names in memory; it still stores the old ones unless it is told
otherwise, so both are met in files.
"""

from ..names import ROTARY, Format, Row, Rule

_TOKENS = (
    Row('embeddings.cls_token', 'cls_token'),
    Row('embeddings.register_tokens', 'register_tokens'),
    Row('embeddings.distillation_token', 'dist_token'),
    Row('embeddings.position_embeddings', 'pos_embed'),
)
_MASK_TOKEN = Row('embeddings.mask_token', 'mask_token')
_FLAT_MASK_TOKEN = Row('embeddings.mask_token', 'mask_token', flat=1)
_PATCHES = Row('embeddings.patch_embeddings.projection.{leaf}', 'patch_embed.projection.{leaf}')
_NORMS = (Row('layernorm.{leaf}', 'ln1.{leaf}'), Row('pooler.layernorm.{leaf}', 'ln2.{leaf}'))
_LEFT_OUT = (
    ('pooler.dense.*', 'pooling head'),
    ('*relative_position_index', 'computed, not learned'),
    ('rope_embeddings.*', 'computed, not learned'),
)

# Names within a layer, and ours.
_OLD_ATTENTION = (
    (
        (
            'attention.attention.query.{leaf}',
            'attention.attention.key.{leaf}',
            'attention.attention.value.{leaf}',
        ),
        'attn.qkv.{leaf}',
    ),
    ('attention.output.dense.{leaf}', 'attn.proj.{leaf}'),
)
_NEW_ATTENTION = (
    (
        ('attention.q_proj.{leaf}', 'attention.k_proj.{leaf}', 'attention.v_proj.{leaf}'),
        'attn.qkv.{leaf}',
    ),
    ('attention.o_proj.{leaf}', 'attn.proj.{leaf}'),
)
_VIT = (
    ('layernorm_before.{leaf}', 'ln1.{leaf}'),
    ('layernorm_after.{leaf}', 'ln2.{leaf}'),
    ('lambda_1', 'attn.gamma1.weight'),
    ('lambda_2', 'ffn.gamma2.weight'),
)
_DINO = (
    ('norm1.{leaf}', 'ln1.{leaf}'),
    ('norm2.{leaf}', 'ln2.{leaf}'),
    ('layer_scale1.lambda1', 'attn.gamma1.weight'),
    ('layer_scale2.lambda1', 'ffn.gamma2.weight'),
)
_MLP = (
    ('mlp.fc1.{leaf}', 'ffn.layers.0.0.{leaf}'),
    ('mlp.fc2.{leaf}', 'ffn.layers.1.{leaf}'),
)
_GATED = (
    (('mlp.gate_proj.{leaf}', 'mlp.up_proj.{leaf}'), 'ffn.w12.{leaf}'),
    ('mlp.down_proj.{leaf}', 'ffn.w3.{leaf}'),
)
_TABLE = 'relative_position_bias_table'


def _layer(prefix: str, *pairs: tuple[str | tuple[str, ...], str]) -> tuple[Row, ...]:
    """Rows of an encoder layer whose names have a prefix."""

    def full(names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return prefix + names if isinstance(names, str) else tuple(prefix + n for n in names)

    return tuple(Row(full(theirs), f'layers.{{layer}}.{ours}') for theirs, ours in pairs)


HF_VIT = Format(
    name='transformers ViT',
    title="transformers' ViT, DeiT, MAE and BEiT",
    rows=(
        *_TOKENS,
        _MASK_TOKEN,
        _PATCHES,
        *_layer(
            'encoder.layer.{layer}.',
            *_OLD_ATTENTION,
            *_VIT,
            ('intermediate.dense.{leaf}', 'ffn.layers.0.0.{leaf}'),
            ('output.dense.{leaf}', 'ffn.layers.1.{leaf}'),
            (f'attention.attention.relative_position_bias.{_TABLE}', f'attn.{_TABLE}'),
        ),
        Row(f'encoder.relative_position_bias.{_TABLE}', f'rel_pos_bias.{_TABLE}'),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)

HF_VIT_5 = Format(
    name='transformers 5 ViT',
    title="transformers' ViT, DeiT, MAE and BEiT, names of version 5",
    rows=(
        *_TOKENS,
        _MASK_TOKEN,
        _PATCHES,
        *_layer(
            'layers.{layer}.',
            *_NEW_ATTENTION,
            *_VIT,
            *_MLP,
            (f'relative_position_bias.{_TABLE}', f'attn.{_TABLE}'),
        ),
        Row(f'shared_position_bias.{_TABLE}', f'rel_pos_bias.{_TABLE}'),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)

HF_DINOV2 = Format(
    name='transformers DINOv2',
    title="transformers' DINOv2, with and without registers",
    rows=(
        *_TOKENS,
        _FLAT_MASK_TOKEN,
        _PATCHES,
        *_layer(
            'encoder.layer.{layer}.',
            *_OLD_ATTENTION,
            *_DINO,
            *_MLP,
            ('mlp.weights_in.{leaf}', 'ffn.w12.{leaf}'),
            ('mlp.weights_out.{leaf}', 'ffn.w3.{leaf}'),
        ),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)

HF_DINOV2_5 = Format(
    name='transformers 5 DINOv2',
    title="transformers' DINOv2, with and without registers, names of version 5",
    rows=(
        *_TOKENS,
        _FLAT_MASK_TOKEN,
        _PATCHES,
        *_layer('encoder.layer.{layer}.', *_NEW_ATTENTION, *_DINO, *_MLP, *_GATED),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)


def _dinov3(name: str, title: str, prefix: str) -> Format:
    return Format(
        name=name,
        title=title,
        rows=(
            *_TOKENS,
            _MASK_TOKEN,
            Row('embeddings.patch_embeddings.{leaf}', 'patch_embed.projection.{leaf}'),
            *_layer(
                prefix,
                *_NEW_ATTENTION,
                *_DINO,
                ('mlp.up_proj.{leaf}', 'ffn.layers.0.0.{leaf}'),
                ('mlp.down_proj.{leaf}', 'ffn.layers.1.{leaf}'),
            ),
            Row('norm.{leaf}', 'ln1.{leaf}'),
        ),
        gated_rows=_layer(prefix, *_GATED),
        left_out=_LEFT_OUT,
        rules=(Rule('rotary', ROTARY), Rule('norm_eps', 1e-5)),
    )


HF_DINOV3 = _dinov3('transformers DINOv3', "transformers' DINOv3", 'layer.{layer}.')
HF_DINOV3_5 = _dinov3(
    'transformers 5 DINOv3', "transformers' DINOv3, names of version 5", 'model.layer.{layer}.'
)
