# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Weights of a backbone for other libraries."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from .convert import express
from .describe import describe_backbone
from .errors import CheckpointError
from .formats.swin import swin_format
from .libraries import LIBRARIES
from .parts import part_of
from .swin_names import INDEX, express_swin

_TIMM_MODEL = re.compile(r'(.*\btimm_model\.)')


@dataclass(frozen=True)
class Export:
    """Weights for a network of another library.

    Args:
        title: The network.
        weights: Its names and shapes, complete.
        suffixes: Of files that the library reads, the usual one first; empty for a folder with
            ``config.json``.
        options: Arguments that the network is built with; the contents of ``config.json``.
            Empty where they are as in training.
        usage: How it is built and filled, one line, ``FILE`` standing for the file.
        left_out: Our names of parameters that the network does without, and what they are.
        added: What the network has more, with values that change nothing.
    """

    title: str
    weights: dict[str, Tensor]
    suffixes: tuple[str, ...]
    usage: str
    options: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)


def export_backbone(backbone: nn.Module, library: str) -> Export:
    """Give the weights of a backbone the names and form of a library.

    Values stay as they are, bit by bit, and read back by :func:`load_pretrained_vit` they are the
    same; a network of the library that is built by ``options`` takes them with ``strict=True`` and
    gives the same tokens.

    Args:
        backbone: :class:`ibot_mm.MaskedVisionTransformer` or
            :class:`ibot_mm.MaskedSwinTransformer`.
        library: 'mmpretrain' (of Swin mmdet and mmseg too), 'timm', 'published' (the published
            iBOT) or 'huggingface' (transformers).

    Raises:
        CheckpointError: If the library is unknown or has no network with all parts of this one.
    """
    if library not in LIBRARIES:
        raise CheckpointError(f"Unknown library '{library}': choose from {', '.join(LIBRARIES)}.")
    if hasattr(backbone, 'stages'):
        return _export_swin(cast(Any, backbone), library)
    target = LIBRARIES[library](describe_backbone(backbone))
    if target.lacks:
        raise CheckpointError(
            f'{target.title} cannot hold these weights, which have {", ".join(target.lacks)}. '
            f'Export them for another library than {library}.'
        )
    state = {n: t for n, t in backbone.state_dict().items() if n not in target.left_out}
    if target.positions and 'pos_embed' in state:
        tokens = int('cls_token' in state)
        before, patches = state['pos_embed'].tensor_split([tokens], dim=1)
        zeros = patches.new_zeros(1, target.positions, patches.shape[2])
        state['pos_embed'] = torch.cat([before, zeros, patches], dim=1)
    some = next(iter(state.values()))
    added = {name: tensor.to(some.dtype) for name, tensor in target.added.items()}
    return Export(
        title=target.title,
        weights=express(state | added, target.format),
        suffixes=target.suffixes,
        options=target.options,
        usage=target.usage,
        left_out=target.left_out,
        added=_summary(added),
    )


def export_timm_model(tensors: Mapping[str, Tensor], network: str = 'teacher') -> Export | None:
    """Weights of a timm model that was trained inside :class:`ibot_mm.TimmVisionTransformer`.

    Its names only have a prefix there, so that any model of timm's can be exported, with
    formats this package does not know too.

    Args:
        tensors: A whole checkpoint, as from :func:`load_checkpoint_file`.
        network: 'teacher' or 'student'. Defaults to 'teacher'.

    Returns:
        The weights; None if the checkpoint holds no such model.

    Raises:
        CheckpointError: If there is not exactly one such network.
    """
    found = dict.fromkeys(m[1] for m in map(_TIMM_MODEL.match, tensors) if m)
    if not found:
        return None
    teachers = [prefix for prefix in found if 'teacher' in prefix.split('.')]
    students = [prefix for prefix in found if prefix not in teachers]
    chosen = (teachers or students) if network == 'teacher' else students
    if len(chosen) != 1:
        raise CheckpointError(f'it holds no single {network}, only {list(found)}')
    prefix = chosen[0]
    mask_token = prefix.removesuffix('timm_model.') + 'mask_token'
    return Export(
        title='the timm model of the training',
        weights={n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)},
        suffixes=('.safetensors', '.pth'),
        usage='timm.create_model(NAME, num_classes=0, ..., checkpoint_path=FILE), as in training',
        left_out={mask_token: 'the mask token'} if mask_token in tensors else {},
    )


def _export_swin(backbone: Any, library: str) -> Export:
    state = backbone.state_dict()
    left_out = {}
    if 'mask_token' in state and library != 'published':
        del state['mask_token']
        left_out['mask_token'] = 'the mask token, which only pre-training needs'
    windows = f'windows of {backbone.stages[0].blocks[0].attn.window_size}, norms of eps 1e-6'
    usage = f'the SwinTransformer of the training: {windows}'
    if library == 'mmpretrain':
        weights, title = state, 'the SwinTransformer of mmpretrain, mmdet and mmseg'
    elif library in ('timm', 'published'):
        if library == 'timm':  # which does not store what it computes
            state = {n: t for n, t in state.items() if not n.endswith(INDEX)}
        format = swin_format(backbone.num_layers, of_timm=library == 'timm')
        weights, title = express_swin(state, format), format.title
    else:
        raise CheckpointError(
            'Swin weights are exported for mmpretrain (mmdet, mmseg), timm and published, not for '
            f'{library}.'
        )
    suffixes = ('.safetensors', '.pth') if library == 'timm' else ('.pth',)
    return Export(title, weights, suffixes, usage, left_out=left_out)


def _summary(added: Mapping[str, Tensor]) -> list[str]:
    """Each added part once, with its value."""
    words = []
    for name, tensor in added.items():
        part = part_of(name)
        value = 'ones' if tensor.numel() and tensor.all() else 'zeros'
        words.append(f'{part.title if part else name}: {value}')
    return list(dict.fromkeys(words))
