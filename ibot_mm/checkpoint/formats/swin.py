# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of Swin: ours, which are mm's, the published code's, timm's and Hugging Face's."""

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from ..names import Format, Row

_BLOCK = (  # ours; the published code's and timm's; Hugging Face's
    ('norm1.{leaf}', 'norm1.{leaf}', 'layernorm_before.{leaf}'),
    ('norm2.{leaf}', 'norm2.{leaf}', 'layernorm_after.{leaf}'),
    (
        'attn.w_msa.qkv.{leaf}',
        'attn.qkv.{leaf}',
        tuple(f'attention.self.{name}.{{leaf}}' for name in ('query', 'key', 'value')),
    ),
    ('attn.w_msa.proj.{leaf}', 'attn.proj.{leaf}', 'attention.output.dense.{leaf}'),
    *(
        (f'attn.w_msa.{name}', f'attn.{name}', f'attention.self.{name}')
        for name in ('relative_position_bias_table', 'relative_position_index')
    ),
    ('ffn.layers.0.0.{leaf}', 'mlp.fc1.{leaf}', 'intermediate.dense.{leaf}'),
    ('ffn.layers.1.{leaf}', 'mlp.fc2.{leaf}', 'output.dense.{leaf}'),
)
_TITLES = dict(
    mm='Swin of ibot_mm and mm',
    published="the published code's Swin",
    timm="timm's Swin",
    huggingface="transformers' Swin",
)
_LEFT_OUT = (
    ('head.*', 'classification head'),
    ('*.attn_mask', 'computed, not learned'),
    ('pyramid.*', 'feature pyramid'),
)


class UnfoldOrder:
    """Inputs of a patch merging, whose order differs, see :func:`to_unfold_order`."""

    @staticmethod
    def join(tensors: Sequence[Tensor | None]) -> Tensor:
        """Put them in the order of ours."""
        (tensor,) = tensors
        if tensor is None or tensor.shape[-1] % 4:  # whose shape fits nothing
            return torch.zeros(0) if tensor is None else tensor
        return tensor.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)

    @staticmethod
    def split(tensor: Tensor, number: int) -> Sequence[Tensor]:
        """Put them in the order of theirs."""
        return [tensor.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)]


def swin_format(num_stages: int, library: str = 'published') -> Format:
    """The table of a Swin.

    Args:
        num_stages: How many stages it has; the final norm is ``norm.*`` there, and ``norm3.*``
            here where there are four.
        library: Whose names: 'mm', 'published', 'timm', which counts a patch merging to the stage
            that follows it, or 'huggingface'. Defaults to 'published'.
    """
    merging = [f'stages.{i}.downsample.{name}' for i in range(num_stages - 1)
               for name in ('norm.{leaf}', 'reduction.{leaf}')]  # fmt: skip
    last = f'norm{num_stages - 1}.{{leaf}}'
    blocks = 'stages.{stage}.blocks.{block}.'
    if library == 'mm':
        rows = [Row(name, name) for name in ('mask_token', 'norm{stage}.{leaf}', *merging)]
        rows += [Row(f'patch_embed.{n}.{{leaf}}', f'patch_embed.{n}.{{leaf}}')
                 for n in ('projection', 'norm')]  # fmt: skip
        rows += [Row(blocks + ours, blocks + ours) for ours, _, _ in _BLOCK]
    else:
        of_hf, shift = library == 'huggingface', int(library == 'timm')
        stages = 'encoder.layers' if of_hf else 'layers'
        start = 'embeddings.patch_embeddings.projection' if of_hf else 'patch_embed.proj'
        norm = 'embeddings.norm' if of_hf else 'patch_embed.norm'
        tokens = {'published': ('masked_embed', 'mask_token'),
                  'huggingface': ('embeddings.mask_token',)}  # fmt: skip
        rows = [
            *(Row(n, 'mask_token', flat=int(n == 'masked_embed')) for n in tokens.get(library, ())),
            Row(f'{start}.{{leaf}}', 'patch_embed.projection.{leaf}'),
            Row(f'{norm}.{{leaf}}', 'patch_embed.norm.{leaf}'),
            Row('layernorm.{leaf}' if of_hf else 'norm.{leaf}', last),
        ]
        for ours, of_code, of_transformers in _BLOCK:
            theirs = of_transformers if of_hf else of_code
            prefix = f'{stages}.{{stage}}.blocks.{{block}}.'
            full = prefix + theirs if isinstance(theirs, str) else tuple(prefix + n for n in theirs)
            rows.append(Row(full, blocks + ours))
        for ours in merging:
            stage, rest = re.fullmatch(r'stages\.(\d+)\.(.*)', ours).groups()  # type: ignore[union-attr]
            rows.append(Row(f'{stages}.{int(stage) + shift}.{rest}', ours, UnfoldOrder))
    return Format(
        name=f'{library} Swin', title=_TITLES[library], rows=tuple(rows), left_out=_LEFT_OUT
    )


def swin_format_of(names: Collection[str]) -> Format | None:
    """The format of a Swin; None for another network.

    Args:
        names: Of a whole state dict, with any prefix.
    """
    found = (re.search(r'(^|\.)(stages|layers)\.(\d+)\.blocks\.\d+\.(\w+)\.', n) for n in names)
    places = [(match[2], int(match[3]), match[4]) for match in found if match]
    if not places or not any('relative_position_bias_table' in n or 'logit_scale' in n
                             for n in names):  # fmt: skip
        return None
    number = max(stage for _, stage, _ in places) + 1
    if places[0][0] == 'stages':
        return swin_format(number, 'mm')
    if any(part == 'attention' for _, _, part in places):
        return swin_format(number, 'huggingface')
    merges_first = any(re.search(r'\blayers\.0\.downsample\.', name) for name in names)
    return swin_format(number, 'published' if merges_first or number == 1 else 'timm')


def to_unfold_order(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reorder the inputs of a published Swin's patch merging to those of ``nn.Unfold``.

    The published code, as timm, puts the four neighbors one after the other, columns outermost,
    each with all its channels; mm keeps the four values of a channel together, row by row.

    Args:
        state_dict: With any names.

    Returns:
        The same tensors but for those of ``downsample``.
    """
    return {
        name: UnfoldOrder.join([tensor]) if '.downsample.' in name else tensor
        for name, tensor in state_dict.items()
    }
