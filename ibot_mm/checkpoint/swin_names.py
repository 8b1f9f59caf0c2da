# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of Swin: the published iBOT code's, and ours, which are mmdet's and mmseg's too."""

import math
import re
from collections.abc import Iterable, Mapping

import torch.nn.functional as F
from torch import Tensor

from .errors import CheckpointError

# Published (Microsoft's) name -> ours, as pairs for `re`.
_PUBLISHED = (
    (r'masked_embed', 'mask_token'),
    (r'patch_embed\.proj\.(.*)', r'patch_embed.projection.\1'),
    (r'patch_embed\.norm\.(.*)', r'patch_embed.norm.\1'),
    (r'layers\.(\d+)\.blocks\.(\d+)\.norm([12])\.(.*)', r'stages.\1.blocks.\2.norm\3.\4'),
    (r'layers\.(\d+)\.blocks\.(\d+)\.attn\.(.*)', r'stages.\1.blocks.\2.attn.w_msa.\3'),
    (r'layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc1\.(.*)', r'stages.\1.blocks.\2.ffn.layers.0.0.\3'),
    (r'layers\.(\d+)\.blocks\.(\d+)\.mlp\.fc2\.(.*)', r'stages.\1.blocks.\2.ffn.layers.1.\3'),
    (r'layers\.(\d+)\.downsample\.(.*)', r'stages.\1.downsample.\2'),
)
_ANCHORS = ('patch_embed.proj.weight', 'patch_embed.projection.weight')
_TABLE = 'relative_position_bias_table'
INDEX = 'relative_position_index'  # computed, not learned


def swin_table(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The table of a published Swin, by the names of its parameters; empty for another network.

    Args:
        names: Of a whole state dict, with any prefix.

    Returns:
        (pattern of a published name, our name) pairs.
    """
    found = (re.search(r'\blayers\.(\d+)\.blocks\.', name) for name in names)
    stages = [int(match[1]) for match in found if match]
    return (*_PUBLISHED, (r'norm\.(.*)', rf'norm{max(stages)}.\1')) if stages else ()


def to_unfold_order(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reorder the inputs of a published Swin's patch merging to those of ``nn.Unfold``.

    The published code puts the four neighbours one after the other, columns outermost, each with
    all its channels; mm keeps the four values of a channel together, row by row.

    Args:
        state_dict: Under published names, with any prefix.

    Returns:
        The same tensors but for those of ``downsample``.
    """
    return {
        name: tensor.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)
        if '.downsample.' in name
        else tensor
        for name, tensor in state_dict.items()
    }


def swin_state_dict(
    checkpoint: Mapping[str, Tensor],
    network: str = 'teacher',
    like: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Weights of a pre-trained Swin for the ``SwinTransformer`` of mmdet, mmseg and mmpretrain.

    All three have our names and our layout. For the same function they need norms of eps 1e-6 and
    the windows of the pre-training. mmdet and mmseg have windows of one size and shift them in
    every second block, where a stage that is one window in pre-training is not shifted there.

    Args:
        checkpoint: Tensors of a pre-training checkpoint by their names, with any prefix, as from
            :func:`load_checkpoint_file`; ours or the published code's.
        network: Which one, where there are both: 'teacher' or 'student'. A file with neither has
            one network, which is taken. Defaults to 'teacher'.
        like: State dict of the network to be filled. Tables of relative positions are resized to
            its windows, bicubic, as mmdet and mmseg do. Defaults to None, left as they are.

    Returns:
        Weights under our names, without mask token and without the index of relative positions,
        which every network computes for its own windows.

    Raises:
        CheckpointError: If there is no Swin, or not the one wanted.
    """
    prefix = find_prefix(checkpoint, network)
    state = {n.removeprefix(prefix): t for n, t in checkpoint.items() if n.startswith(prefix)}
    table = swin_table(state)
    if table:
        state = {_rename(name, table): t for name, t in to_unfold_order(state).items()}
    if not any(re.match(r'stages\.\d+\.blocks\.\d+\.attn\.w_msa\.', name) for name in state):
        raise CheckpointError(
            f"the network under '{prefix}' is no Swin Transformer of ours or of the published "
            f'code: its tensors begin with {", ".join(list(state)[:4])}'
        )
    state = {n: t for n, t in state.items() if n != 'mask_token' and not n.endswith(INDEX)}
    if like is not None:
        for name in state.keys() & like.keys():
            if name.endswith(_TABLE):
                state[name] = _resize_table(state[name], len(like[name]))
    return state


def find_prefix(names: Iterable[str], network: str) -> str:
    """What the names of the wanted network have in front.

    Args:
        names: Of a checkpoint.
        network: 'teacher' or 'student'.

    Raises:
        CheckpointError: If there is no such network, or more than one.
    """
    if network not in ('teacher', 'student'):
        raise CheckpointError(f"network must be 'teacher' or 'student', got {network!r}")
    prefixes = [n.removesuffix(anchor) for n in names for anchor in _ANCHORS if n.endswith(anchor)]
    teachers = [prefix for prefix in prefixes if 'teacher' in prefix.split('.')]
    students = [prefix for prefix in prefixes if prefix not in teachers]
    chosen = (teachers or students) if network == 'teacher' else students
    if len(chosen) != 1:
        raise CheckpointError(
            f'it holds no single {network}: networks were found under {prefixes}. Give a '
            "checkpoint of a pre-training, or network='teacher' where only that was stored"
        )
    return chosen[0]


def _rename(name: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in table:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise CheckpointError(f"'{name}' is not a parameter name of the published code's Swin")


def _resize_table(table: Tensor, length: int) -> Tensor:
    """Bicubic, (square of the old side, heads) -> (length, heads), a square too."""
    source, target = math.isqrt(len(table)), math.isqrt(length)
    if source == target:
        return table
    maps = table.T.unflatten(1, (source, source))[None]  # (1, heads, side, side)
    resized = F.interpolate(maps.float(), size=(target, target), mode='bicubic')
    return resized[0].flatten(1).T.contiguous().to(table.dtype)
