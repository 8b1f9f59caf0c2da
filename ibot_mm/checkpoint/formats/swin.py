# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Names of Swin: ours, which are mm's, the published code's, timm's and Hugging Face's."""

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from ..names import COMPUTED, Concatenation, Format, Rule, rows

_BLOCK = (  # ours; the published code's and timm's; Hugging Face's
    ('norm1.*', 'norm1.*', 'layernorm_before.*'),
    ('norm2.*', 'norm2.*', 'layernorm_after.*'),
    (
        'attn.w_msa.qkv.*',
        'attn.qkv.*',
        tuple(f'attention.self.{name}.*' for name in ('query', 'key', 'value')),
    ),
    ('attn.w_msa.proj.*', 'attn.proj.*', 'attention.output.dense.*'),
    *(
        (f'attn.w_msa.{name}', f'attn.{name}', f'attention.self.{name}')
        for name in ('relative_position_bias_table', 'relative_position_index')
    ),
    ('ffn.layers.0.0.*', 'mlp.fc1.*', 'intermediate.dense.*'),
    ('ffn.layers.1.*', 'mlp.fc2.*', 'output.dense.*'),
)
# The folder of stages, and what lies outside of them; ``LAST`` is our norm of the last stage.
_OUTSIDE: dict[str, tuple[str, dict[str, str]]] = {
    'mm': ('stages', {name: name for name in ('mask_token', 'norm{stage}.*')}
           | {f'patch_embed.{name}.*': f'patch_embed.{name}.*' for name in ('projection', 'norm')}),
    'published': ('layers', {
        'masked_embed': 'mask_token[0]', 'mask_token': 'mask_token',
        'patch_embed.proj.*': 'patch_embed.projection.*',
        'patch_embed.norm.*': 'patch_embed.norm.*', 'norm.*': 'LAST',
    }),
    'timm': ('layers', {
        'patch_embed.proj.*': 'patch_embed.projection.*',
        'patch_embed.norm.*': 'patch_embed.norm.*', 'norm.*': 'LAST',
    }),
    'huggingface': ('encoder.layers', {
        'embeddings.mask_token': 'mask_token',
        'embeddings.patch_embeddings.projection.*': 'patch_embed.projection.*',
        'embeddings.norm.*': 'patch_embed.norm.*', 'layernorm.*': 'LAST',
    }),
}  # fmt: skip
_TITLES = dict(
    mm='Swin of ibot_mm and mm',
    published="the published code's Swin",
    timm="timm's Swin",
    huggingface="transformers' Swin",
)
_LEFT_OUT = (
    ('head.*', 'classification head'),
    ('*.attn_mask', COMPUTED),
    ('pyramid.*', 'feature pyramid'),
)


class UnfoldOrder(Concatenation):
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


def _is_not_ibots(names: Collection[str]) -> bool:
    """Whether a network has a classifier, or is SimMIM's encoder; iBOT's norms have 1e-6."""
    return any(name.startswith('head.') or name.endswith('encoder.') for name in names)


def swin_format(num_stages: int, library: str = 'published') -> Format:
    """Return the table of a Swin.

    Args:
        num_stages: How many stages it has; the final norm is ``norm.*`` there, and ``norm3.*``
            here where there are four.
        library: Whose names: 'mm', 'published', 'timm', which counts a patch merging to the stage
            that follows it, or 'huggingface'. Defaults to 'published'.
    """
    stages, outside = _OUTSIDE[library]
    column = dict(mm=0, huggingface=2).get(library, 1)
    table = rows({n: o.replace('LAST', f'norm{num_stages - 1}.*') for n, o in outside.items()})
    block = '.{stage}.blocks.{block}.'
    table += rows({names[column]: names[0] for names in _BLOCK}, stages + block, f'stages{block}')
    order, shift = Concatenation if library == 'mm' else UnfoldOrder, int(library == 'timm')
    for i in range(num_stages - 1):
        merging = {f'{i + shift}.downsample.{n}.*': f'{i}.downsample.{n}.*'
                   for n in ('norm', 'reduction')}  # fmt: skip
        table += rows(merging, f'{stages}.', 'stages.', order)
    rule = Rule('norm_eps', 1e-5, _is_not_ibots if library == 'published' else lambda names: True)
    rules = () if library == 'mm' else (rule,)
    return Format(f'{library} Swin', _TITLES[library], table, left_out=_LEFT_OUT, rules=rules)


def swin_format_of(names: Collection[str]) -> Format | None:
    """Return the format of a Swin; None for another network.

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
