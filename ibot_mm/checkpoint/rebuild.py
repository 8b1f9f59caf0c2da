# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The backbone that a checkpoint holds, built from nothing but the checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from torch import Tensor

from ibot_mm.registry import MODELS

from .describe import describe_backbone, describe_weights
from .errors import CheckpointError
from .files import load_checkpoint_file
from .load import fill
from .pretrained_swin import compare_swin
from .recognize import find_networks, recognize
from .report import LoadReport
from .settings import Settings, read_settings
from .swin_names import holds_swin, read_swin, swin_options


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
        source = recognize(tensors, network)
        vit = describe_weights(source, settings, num_heads)
        options = vit.options()
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint} cannot be used: {error}.') from error
    backbone: Any = MODELS.build(dict(type='ibot_mm.MaskedVisionTransformer', **options))
    backbone.to(source.weights.state['patch_embed.projection.weight'].dtype).eval()
    report = fill(backbone, source, tensors, str(checkpoint), settings)
    if num_heads is None and settings.num_heads is None:
        report.notes.append(
            f'It is taken to have {vit.num_heads} attention heads, {vit.heads_from}: nothing in '
            'the file tells them.'
        )
    return backbone, report


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
        names = [*report.missing, *report.unexpected, *report.resized]
        raise CheckpointError(
            f'it is no complete Swin as mmpretrain has it: {len(names)} parameters are missing or '
            f'have no place, {", ".join(names[:4])}'
        )
    backbone.load_state_dict(
        fits | {n: t for n, t in state.items() if n == 'mask_token'}, strict=False
    )
    return backbone, report


def backbone_config(backbone: Any) -> str:
    """The text of a config that builds a backbone, to be stored beside its weights.

    There :func:`read_settings` finds what weights do not show, such as the heads of a ViT.
    """
    if hasattr(backbone, 'stages'):
        patch = backbone.patch_embed.projection.kernel_size
        height, width = (n * p for n, p in zip(backbone.patch_resolution, patch))
        options = swin_options(backbone.state_dict(), Settings(img_size=(height, width)))
    else:
        options = describe_backbone(backbone).options()
    config = dict(type=f'ibot_mm.{type(backbone).__name__}', **options)
    return Config(dict(model=dict(backbone=config))).pretty_text
