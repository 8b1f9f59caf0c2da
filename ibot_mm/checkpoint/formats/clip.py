# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of the image towers of CLIP and SigLIP, and of torchvision, which has layers like them."""

from collections.abc import Collection

from ..names import COMPUTED, Format, Row, Rule, rows


def _has_pre_norm(names: Collection[str]) -> bool:
    return 'pre_norm.weight' in names


_OF_CLIP = (
    Rule('norm_eps', 1e-5, _has_pre_norm),
    Rule(
        'activation', None, _has_pre_norm, "OpenAI's CLIP and others have quick_gelu, OpenCLIP gelu"
    ),
)


def _layers(prefix: str, attention: str, others: dict[str, str]) -> tuple[Row, ...]:
    """Rows of layers with torch's own attention."""
    table = {
        f'{attention}.in_proj_weight': 'attn.qkv.weight',
        f'{attention}.in_proj_bias': 'attn.qkv.bias',
        f'{attention}.out_proj.*': 'attn.proj.*',
        'ln_1.*': 'ln1.*',
        'ln_2.*': 'ln2.*',
    }
    return rows(table | others, prefix, 'layers.{layer}.')


CLIP = Format(
    name='CLIP',
    title="OpenAI's CLIP and OpenCLIP",
    rows=rows(
        {
            'class_embedding': 'cls_token[0, 0]',
            'positional_embedding': 'pos_embed[0]',
            'conv1.*': 'patch_embed.projection.*',
            'ln_pre.*': 'pre_norm.*',
            'ln_post.*': 'ln1.*',
        }
    )
    + _layers(
        'transformer.resblocks.{layer}.',
        'attn',
        {
            'mlp.c_fc.*': 'ffn.layers.0.0.*',
            'mlp.c_proj.*': 'ffn.layers.1.*',
            'ls_1.gamma': 'attn.gamma1.weight',
            'ls_2.gamma': 'ffn.gamma2.weight',
        },
    ),
    left_out=(('proj', 'projection to the space of texts'), ('attn_pool.*', 'pooling head')),
    rules=_OF_CLIP,
)

HF_CLIP = Format(
    name='transformers CLIP',
    title="transformers' CLIP and SigLIP",
    rows=rows(
        {
            'embeddings.class_embedding': 'cls_token[0, 0]',
            'embeddings.position_embedding.weight': 'pos_embed[0]',
            'embeddings.patch_embedding.*': 'patch_embed.projection.*',
            'pre_layrnorm.*': 'pre_norm.*',
            'post_layernorm.*': 'ln1.*',
        }
    )
    + rows(
        {
            tuple(f'self_attn.{name}_proj.*' for name in 'qkv'): 'attn.qkv.*',
            'self_attn.out_proj.*': 'attn.proj.*',
            'layer_norm1.*': 'ln1.*',
            'layer_norm2.*': 'ln2.*',
            'mlp.fc1.*': 'ffn.layers.0.0.*',
            'mlp.fc2.*': 'ffn.layers.1.*',
        },
        'encoder.layers.{layer}.',
        'layers.{layer}.',
    ),
    left_out=(('head.*', 'pooling head'), ('embeddings.position_ids', COMPUTED)),
    rules=(*_OF_CLIP, Rule('activation', 'gelu_tanh', lambda names: 'cls_token' not in names)),
)

TORCHVISION = Format(
    name='torchvision',
    title="torchvision's ViT",
    rows=rows(
        {
            'class_token': 'cls_token',
            'encoder.pos_embedding': 'pos_embed',
            'conv_proj.*': 'patch_embed.projection.*',
            'encoder.ln.*': 'ln1.*',
        }
    )
    + _layers(
        'encoder.layers.encoder_layer_{layer}.',
        'self_attention',
        {
            'mlp.0.*': 'ffn.layers.0.0.*',
            'mlp.3.*': 'ffn.layers.1.*',
            'mlp.linear_1.*': 'ffn.layers.0.0.*',
            'mlp.linear_2.*': 'ffn.layers.1.*',
        },
    ),
    left_out=(('heads.*', 'classification head'),),
)
