# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of Swin: the published code's, timm's, and ours, which are mmdet's and mmseg's too."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .convert import convert, express
from .errors import CheckpointError
from .formats.swin import swin_format
from .formats.table import Format
from .recognize import choose_prefix
from .settings import Settings

_ANCHORS = ('patch_embed.proj.weight', 'patch_embed.projection.weight')
_TABLE = 'relative_position_bias_table'
INDEX = 'relative_position_index'  # computed, not learned


def foreign_swin(names: Iterable[str]) -> Format | None:
    """The format of a Swin that has not our names; None for our Swin and for another network.

    Args:
        names: Of a whole state dict, with any prefix.
    """
    names = list(names)
    found = (re.search(r'\blayers\.(\d+)\.blocks\.', name) for name in names)
    stages = {int(match[1]) for match in found if match}
    if not stages:
        return None
    merges_first = any(re.search(r'\blayers\.0\.downsample\.', name) for name in names)
    return swin_format(max(stages) + 1, of_timm=len(stages) > 1 and not merges_first)


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
        name: tensor.unflatten(-1, (2, 2, -1)).transpose(-1, -3).flatten(-3)
        if '.downsample.' in name
        else tensor
        for name, tensor in state_dict.items()
    }


def from_unfold_order(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of :func:`to_unfold_order`."""
    return {
        name: tensor.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)
        if '.downsample.' in name
        else tensor
        for name, tensor in state_dict.items()
    }


def express_swin(state_dict: Mapping[str, Tensor], format: Format) -> dict[str, Tensor]:
    """Write weights of a Swin in another format, as :func:`express` those of a ViT."""
    return express(from_unfold_order(state_dict), format)


def read_swin(checkpoint: Mapping[str, Tensor], network: str = 'teacher') -> dict[str, Tensor]:
    """Weights of a Swin under our names.

    Args:
        checkpoint: Tensors by their names, with any prefix, as from :func:`load_checkpoint_file`;
            ours, the published code's or timm's.
        network: Which one, where there are both: 'teacher' or 'student'. A file with neither has
            one network, which is taken. Defaults to 'teacher'.

    Returns:
        Everything the network has, its mask token and indices of relative positions included.

    Raises:
        CheckpointError: If there is no Swin, or not the one wanted.
    """
    prefix = find_prefix(checkpoint, network)
    state = {n.removeprefix(prefix): t for n, t in checkpoint.items() if n.startswith(prefix)}
    format = foreign_swin(state)
    if format:
        converted = convert(state, format)
        if converted.unknown:
            raise CheckpointError(
                f"'{converted.unknown[0]}' is not a parameter name of {format.title}"
            )
        state = to_unfold_order(converted.state)
    if not any(re.match(r'stages\.\d+\.blocks\.\d+\.attn\.w_msa\.', name) for name in state):
        raise CheckpointError(
            f"the network under '{prefix}' is no Swin Transformer of ours, of the published code "
            f'or of timm: its tensors begin with {", ".join(list(state)[:4])}'
        )
    return state


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
        checkpoint: As of :func:`read_swin`.
        network: As of :func:`read_swin`. Defaults to 'teacher'.
        like: State dict of the network to be filled. Tables of relative positions are resized to
            its windows, bicubic, as mmdet and mmseg do. Defaults to None, left as they are.

    Returns:
        Weights under our names, without mask token and without the index of relative positions,
        which every network computes for its own windows.

    Raises:
        CheckpointError: If there is no Swin, or not the one wanted.
    """
    state = read_swin(checkpoint, network)
    state = {n: t for n, t in state.items() if n != 'mask_token' and not n.endswith(INDEX)}
    if like is not None:
        for name in state.keys() & like.keys():
            if name.endswith(_TABLE):
                state[name] = _resize_table(state[name], len(like[name]))
    return state


def find_prefix(names: Iterable[str], network: str) -> str:
    """What the names of the wanted network have in front, see :func:`choose_prefix`."""
    return choose_prefix(find_prefixes(names), network)


def find_prefixes(names: Iterable[str]) -> list[str]:
    """What the names of each network have in front."""
    return [n.removesuffix(anchor) for n in names for anchor in _ANCHORS if n.endswith(anchor)]


def _resize_table(table: Tensor, length: int) -> Tensor:
    """Bicubic, (square of the old side, heads) -> (length, heads), a square too."""
    source, target = math.isqrt(len(table)), math.isqrt(length)
    if source == target:
        return table
    maps = table.T.unflatten(1, (source, source))[None]  # (1, heads, side, side)
    resized = F.interpolate(maps.float(), size=(target, target), mode='bicubic')
    return resized[0].flatten(1).T.contiguous().to(table.dtype)


def holds_swin(names: Iterable[str]) -> bool:
    """Whether a checkpoint holds a Swin of ours, the published code's or timm's."""
    pattern = r'(^|\.)(stages|layers)\.\d+\.blocks\.\d+\.attn\.(w_msa\.)?' + _TABLE
    return any(re.search(pattern, name) for name in names)


def swin_options(state: Mapping[str, Tensor], settings: Settings) -> dict[str, Any]:
    """Arguments of :class:`ibot_mm.MaskedSwinTransformer` for weights under our names.

    Weights show everything but whether windows that fill the map of their stage do so by chance.
    Where ``settings`` do not tell the size of images, the last stage is taken for one window, as
    in every published pre-training.
    """
    blocks: dict[int, int] = {}
    for name in state:
        if found := re.match(r'stages\.(\d+)\.blocks\.(\d+)\.', name):
            stage, block = int(found[1]), int(found[2])
            blocks[stage] = max(blocks.get(stage, 0), block + 1)
    names = [f'stages.{stage}.blocks.0.attn.w_msa.{_TABLE}' for stage in range(len(blocks))]
    if missing := [name for name in names if name not in state]:
        raise CheckpointError(f'it is not complete, it lacks {", ".join(missing)}')
    tables = [state[name] for name in names]
    windows = [(math.isqrt(len(table)) + 1) // 2 for table in tables]
    patches = state['patch_embed.projection.weight']
    patch_size = patches.shape[2]
    return dict(
        arch=dict(
            embed_dims=patches.shape[0],
            depths=[blocks[stage] for stage in sorted(blocks)],
            num_heads=[table.shape[1] for table in tables],
        ),
        in_channels=patches.shape[1],
        img_size=settings.img_size or windows[-1] * patch_size << (len(windows) - 1),
        patch_size=patch_size,
        window_size=max(windows),
        mask_token='mask_token' in state,
    )
