# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The backbone that a checkpoint holds, built from nothing but the checkpoint."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ibot_mm.registry import MODELS

from .describe import describe_weights
from .errors import CheckpointError
from .files import load_checkpoint_file
from .load import fill
from .pretrained_swin import compare_swin
from .recognise import find_networks, recognise
from .report import LoadReport, summary
from .settings import Settings, read_settings
from .swin_names import holds_swin, read_swin


def rebuild_backbone(
    checkpoint: str | Path, network: str = 'teacher', num_heads: int | None = None
) -> tuple[Any, LoadReport]:
    """Build the backbone whose weights a checkpoint holds, and fill it.

    Args:
        checkpoint: Of any known format, ViT or Swin, see :func:`load_checkpoint_file`.
        network: 'teacher' or 'student', where the file has both. Defaults to 'teacher'.
        num_heads: Attention heads of a ViT, where neither the file nor its size tells them.
            Defaults to None.

    Returns:
        :class:`ibot_mm.MaskedVisionTransformer` or :class:`ibot_mm.MaskedSwinTransformer` in
        evaluation mode, with weights of the checkpoint's type, and what was loaded.

    Raises:
        CheckpointError: If the file cannot be read, holds no backbone, not the network wanted, or
            one that this project has not.
    """
    tensors = load_checkpoint_file(checkpoint)
    settings = read_settings(checkpoint)
    try:
        if holds_swin(tensors) and not find_networks(tensors):
            return _rebuild_swin(tensors, network, settings, str(checkpoint))
        source = recognise(tensors, network)
        options = describe_weights(source, settings, num_heads).options()
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint} cannot be used: {error}.') from error
    backbone: Any = MODELS.build(dict(type='ibot_mm.MaskedVisionTransformer', **options))
    backbone.to(source.weights.state['patch_embed.projection.weight'].dtype).eval()
    return backbone, fill(backbone, source, tensors, str(checkpoint), settings)


def _rebuild_swin(
    tensors: Mapping[str, Tensor], network: str, settings: Settings, checkpoint: str
) -> tuple[Any, LoadReport]:
    state = read_swin(tensors, network)
    backbone: Any = MODELS.build(
        dict(type='ibot_mm.MaskedSwinTransformer', **swin_options(state, settings))
    )
    backbone.to(state['patch_embed.projection.weight'].dtype).eval()
    report, fits = compare_swin(backbone, tensors, checkpoint, network)
    if report.differences or report.resized:
        raise CheckpointError(
            'it is no Swin as mmpretrain has it: '
            f'{summary([*report.missing, *report.unexpected, *report.resized])}'
        )
    backbone.load_state_dict(
        fits | {n: t for n, t in state.items() if n == 'mask_token'}, strict=False
    )
    return backbone, report


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
    tables = [
        state[f'stages.{stage}.blocks.0.attn.w_msa.relative_position_bias_table']
        for stage in range(len(blocks))
    ]
    windows = [(math.isqrt(len(table)) + 1) // 2 for table in tables]
    patches = state['patch_embed.projection.weight']
    patch_size = patches.shape[2]
    return dict(
        arch=dict(
            embed_dims=patches.shape[0],
            depths=[blocks[stage] for stage in range(len(blocks))],
            num_heads=[table.shape[1] for table in tables],
        ),
        in_channels=patches.shape[1],
        img_size=settings.img_size or windows[-1] * patch_size << (len(windows) - 1),
        patch_size=patch_size,
        window_size=max(windows),
        mask_token='mask_token' in state,
    )
