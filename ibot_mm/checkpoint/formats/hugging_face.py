# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of Hugging Face's transformers.

Version 5 gave several models other names in memory; it still stores the old ones unless it is told
otherwise, so both are met in files.
"""

from ..names import COMPUTED, ROTARY, Format, Row, Rule, Table, rows

_TOKENS = rows(
    {
        'embeddings.cls_token': 'cls_token',
        'embeddings.register_tokens': 'register_tokens',
        'embeddings.distillation_token': 'dist_token',
        'embeddings.position_embeddings': 'pos_embed',
    }
)
_MASK_TOKEN = rows({'embeddings.mask_token': 'mask_token'})
_FLAT_MASK_TOKEN = rows({'embeddings.mask_token': 'mask_token[0]'})
_PATCHES = rows({'embeddings.patch_embeddings.projection.*': 'patch_embed.projection.*'})
_NORMS = rows({'layernorm.*': 'ln1.*', 'pooler.layernorm.*': 'ln2.*'})
_LEFT_OUT = (
    ('pooler.dense.*', 'pooling head'),
    ('*relative_position_index', COMPUTED),
    ('rope_embeddings.*', COMPUTED),
)

# Names within a layer, and ours.
_OLD_ATTENTION = {
    tuple(f'attention.attention.{n}.*' for n in ('query', 'key', 'value')): 'attn.qkv.*',
    'attention.output.dense.*': 'attn.proj.*',
}
_NEW_ATTENTION = {
    tuple(f'attention.{name}_proj.*' for name in 'qkv'): 'attn.qkv.*',
    'attention.o_proj.*': 'attn.proj.*',
}
_VIT = {
    'layernorm_before.*': 'ln1.*',
    'layernorm_after.*': 'ln2.*',
    'lambda_1': 'attn.gamma1.weight',
    'lambda_2': 'ffn.gamma2.weight',
}
_DINO = {
    'norm1.*': 'ln1.*',
    'norm2.*': 'ln2.*',
    'layer_scale1.lambda1': 'attn.gamma1.weight',
    'layer_scale2.lambda1': 'ffn.gamma2.weight',
}
_MLP = {'mlp.fc1.*': 'ffn.layers.0.0.*', 'mlp.fc2.*': 'ffn.layers.1.*'}
_GATED = {('mlp.gate_proj.*', 'mlp.up_proj.*'): 'ffn.w12.*', 'mlp.down_proj.*': 'ffn.w3.*'}
_TABLE = 'relative_position_bias_table'


def _layers(prefix: str, *tables: Table) -> tuple[Row, ...]:
    return tuple(row for table in tables for row in rows(table, prefix, 'layers.{layer}.'))


HF_VIT = Format(
    name='transformers ViT',
    title="transformers' ViT, DeiT, MAE and BEiT",
    rows=(
        *(*_TOKENS, *_MASK_TOKEN, *_PATCHES),
        *_layers(
            'encoder.layer.{layer}.',
            _OLD_ATTENTION,
            _VIT,
            {'intermediate.dense.*': 'ffn.layers.0.0.*', 'output.dense.*': 'ffn.layers.1.*'},
            {f'attention.attention.relative_position_bias.{_TABLE}': f'attn.{_TABLE}'},
        ),
        *rows({f'encoder.relative_position_bias.{_TABLE}': f'rel_pos_bias.{_TABLE}'}),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)

HF_VIT_5 = Format(
    name='transformers 5 ViT',
    title="transformers' ViT, DeiT, MAE and BEiT, names of version 5",
    rows=(
        *(*_TOKENS, *_MASK_TOKEN, *_PATCHES),
        *_layers(
            'layers.{layer}.',
            _NEW_ATTENTION,
            _VIT,
            _MLP,
            {f'relative_position_bias.{_TABLE}': f'attn.{_TABLE}'},
        ),
        *rows({f'shared_position_bias.{_TABLE}': f'rel_pos_bias.{_TABLE}'}),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)

HF_DINOV2 = Format(
    name='transformers DINOv2',
    title="transformers' DINOv2, with and without registers",
    rows=(
        *(*_TOKENS, *_FLAT_MASK_TOKEN, *_PATCHES),
        *_layers(
            'encoder.layer.{layer}.',
            _OLD_ATTENTION,
            _DINO,
            _MLP,
            {'mlp.weights_in.*': 'ffn.w12.*', 'mlp.weights_out.*': 'ffn.w3.*'},
        ),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)

HF_DINOV2_5 = Format(
    name='transformers 5 DINOv2',
    title="transformers' DINOv2, with and without registers, names of version 5",
    rows=(
        *(*_TOKENS, *_FLAT_MASK_TOKEN, *_PATCHES),
        *_layers('encoder.layer.{layer}.', _NEW_ATTENTION, _DINO, _MLP, _GATED),
        *_NORMS,
    ),
    left_out=_LEFT_OUT,
)


def _dinov3(name: str, title: str, prefix: str) -> Format:
    return Format(
        name=name,
        title=title,
        rows=(
            *(*_TOKENS, *_MASK_TOKEN),
            *rows({'embeddings.patch_embeddings.*': 'patch_embed.projection.*'}),
            *_layers(
                prefix,
                _NEW_ATTENTION,
                _DINO,
                {'mlp.up_proj.*': 'ffn.layers.0.0.*', 'mlp.down_proj.*': 'ffn.layers.1.*'},
            ),
            *rows({'norm.*': 'ln1.*'}),
        ),
        gated_rows=_layers(prefix, _GATED),
        left_out=_LEFT_OUT,
        rules=(Rule('rotary', ROTARY), Rule('norm_eps', 1e-5)),
    )


HF_DINOV3 = _dinov3('transformers DINOv3', "transformers' DINOv3", 'layer.{layer}.')
HF_DINOV3_5 = _dinov3(
    'transformers 5 DINOv3', "transformers' DINOv3, names of version 5", 'model.layer.{layer}.'
)
