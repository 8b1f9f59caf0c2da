# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of Swin: the published code's and timm's, beside ours, which are mm's."""

from .table import Format, Row

_BLOCK = (
    ('norm1.{leaf}', 'norm1.{leaf}'),
    ('norm2.{leaf}', 'norm2.{leaf}'),
    ('attn.qkv.{leaf}', 'attn.w_msa.qkv.{leaf}'),
    ('attn.proj.{leaf}', 'attn.w_msa.proj.{leaf}'),
    ('attn.relative_position_bias_table', 'attn.w_msa.relative_position_bias_table'),
    ('attn.relative_position_index', 'attn.w_msa.relative_position_index'),
    ('mlp.fc1.{leaf}', 'ffn.layers.0.0.{leaf}'),
    ('mlp.fc2.{leaf}', 'ffn.layers.1.{leaf}'),
)
_PREFIX = '{part}.{{stage}}.blocks.{{block}}.'


def swin_format(num_stages: int, of_timm: bool = False) -> Format:
    """The table of a Swin.

    Args:
        num_stages: How many stages it has; the final norm is ``norm.*`` there, and ``norm3.*``
            here where there are four.
        of_timm: Whether the names are timm's, which counts a patch merging to the stage that
            follows it and has no mask token; else the published code's. Defaults to False.
    """
    merging = [
        Row(f'layers.{i + of_timm}.downsample.{name}', f'stages.{i}.downsample.{name}')
        for i in range(num_stages - 1)
        for name in ('norm.{leaf}', 'reduction.{leaf}')
    ]
    return Format(
        name='timm Swin' if of_timm else 'published Swin',
        title="timm's Swin" if of_timm else "the published code's Swin",
        rows=(
            *(() if of_timm else (Row('masked_embed', 'mask_token', flat=True),)),
            Row('patch_embed.proj.{leaf}', 'patch_embed.projection.{leaf}'),
            Row('patch_embed.norm.{leaf}', 'patch_embed.norm.{leaf}'),
            *(
                Row(_PREFIX.format(part='layers') + name, _PREFIX.format(part='stages') + ours)
                for name, ours in _BLOCK
            ),
            *merging,
            Row('norm.{leaf}', f'norm{num_stages - 1}.{{leaf}}'),
        ),
    )
