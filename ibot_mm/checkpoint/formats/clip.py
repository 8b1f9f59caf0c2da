# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of the image towers of CLIP and SigLIP, and of torchvision, which has layers like them."""

from collections.abc import Collection

from ..names import Format, Row, Rule

_ATTENTION = (
    ('{attn}.in_proj_weight', 'attn.qkv.weight'),
    ('{attn}.in_proj_bias', 'attn.qkv.bias'),
    ('{attn}.out_proj.{leaf}', 'attn.proj.{leaf}'),
    ('ln_1.{leaf}', 'ln1.{leaf}'),
    ('ln_2.{leaf}', 'ln2.{leaf}'),
)


def _has_pre_norm(names: Collection[str]) -> bool:
    return 'pre_norm.weight' in names


_OF_CLIP = (
    Rule('norm_eps', 1e-5, _has_pre_norm),
    Rule(
        'activation', None, _has_pre_norm, "OpenAI's CLIP and others have quick_gelu, OpenCLIP gelu"
    ),
)


def _layers(prefix: str, attention: str, mlp: tuple[tuple[str, str], ...]) -> tuple[Row, ...]:
    rows = [(name.replace('{attn}', attention), ours) for name, ours in _ATTENTION]
    return tuple(Row(prefix + name, f'layers.{{layer}}.{ours}') for name, ours in [*rows, *mlp])


CLIP = Format(
    name='CLIP',
    title="OpenAI's CLIP and OpenCLIP",
    rows=(
        Row('class_embedding', 'cls_token', flat=2),
        Row('positional_embedding', 'pos_embed', flat=1),
        Row('conv1.{leaf}', 'patch_embed.projection.{leaf}'),
        Row('ln_pre.{leaf}', 'pre_norm.{leaf}'),
        *_layers(
            'transformer.resblocks.{layer}.',
            'attn',
            (
                ('mlp.c_fc.{leaf}', 'ffn.layers.0.0.{leaf}'),
                ('mlp.c_proj.{leaf}', 'ffn.layers.1.{leaf}'),
                ('ls_1.gamma', 'attn.gamma1.weight'),
                ('ls_2.gamma', 'ffn.gamma2.weight'),
            ),
        ),
        Row('ln_post.{leaf}', 'ln1.{leaf}'),
    ),
    left_out=(('proj', 'projection to the space of texts'), ('attn_pool.*', 'pooling head')),
    rules=_OF_CLIP,
)

HF_CLIP = Format(
    name='transformers CLIP',
    title="transformers' CLIP and SigLIP",
    rows=(
        Row('embeddings.class_embedding', 'cls_token', flat=2),
        Row('embeddings.position_embedding.weight', 'pos_embed', flat=1),
        Row('embeddings.patch_embedding.{leaf}', 'patch_embed.projection.{leaf}'),
        Row('pre_layrnorm.{leaf}', 'pre_norm.{leaf}'),
        Row(
            tuple(f'encoder.layers.{{layer}}.self_attn.{n}_proj.{{leaf}}' for n in 'qkv'),
            'layers.{layer}.attn.qkv.{leaf}',
        ),
        *(
            Row(f'encoder.layers.{{layer}}.{theirs}.{{leaf}}', f'layers.{{layer}}.{ours}.{{leaf}}')
            for theirs, ours in (
                ('self_attn.out_proj', 'attn.proj'),
                ('layer_norm1', 'ln1'),
                ('layer_norm2', 'ln2'),
                ('mlp.fc1', 'ffn.layers.0.0'),
                ('mlp.fc2', 'ffn.layers.1'),
            )
        ),
        Row('post_layernorm.{leaf}', 'ln1.{leaf}'),
    ),
    left_out=(
        ('head.*', 'pooling head'),
        ('embeddings.position_ids', 'computed, not learned'),
    ),
    rules=(*_OF_CLIP, Rule('activation', 'gelu_tanh', lambda names: 'cls_token' not in names)),
)

TORCHVISION = Format(
    name='torchvision',
    title="torchvision's ViT",
    rows=(
        Row('class_token', 'cls_token'),
        Row('encoder.pos_embedding', 'pos_embed'),
        Row('conv_proj.{leaf}', 'patch_embed.projection.{leaf}'),
        *_layers(
            'encoder.layers.encoder_layer_{layer}.',
            'self_attention',
            (
                ('mlp.0.{leaf}', 'ffn.layers.0.0.{leaf}'),
                ('mlp.3.{leaf}', 'ffn.layers.1.{leaf}'),
                ('mlp.linear_1.{leaf}', 'ffn.layers.0.0.{leaf}'),
                ('mlp.linear_2.{leaf}', 'ffn.layers.1.{leaf}'),
            ),
        ),
        Row('encoder.ln.{leaf}', 'ln1.{leaf}'),
    ),
    left_out=(('heads.*', 'classification head'),),
)
