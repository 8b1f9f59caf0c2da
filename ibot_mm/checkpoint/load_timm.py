# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Filling a backbone that holds a model of timm."""

import sys
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .convert import revert
from .errors import CheckpointError
from .files import load_checkpoint_file
from .formats import TIMM
from .recognize import Network, recognize
from .report import LoadReport, summary

MASK_TOKENS = ('mask_token', 'masked_embed')


def load_timm_vit(
    module: nn.Module, checkpoint: str | Path, network: str = 'teacher', strict: bool = True
) -> LoadReport:
    """Fill the ``timm_model`` of a backbone.

    Weights under its own names are loaded as they are: those of timm, and those of a pre-training
    here. For others timm's own filter of checkpoints is asked, which knows the names of the code
    that a family comes from (DINOv2, DINOv3, BEiT, ...) and resizes what belongs to positions.

    Args:
        module: Backbone such as :class:`ibot_mm.TimmVisionTransformer`.
        checkpoint: See :func:`load_checkpoint_file`.
        network: See :func:`recognize`. Defaults to 'teacher'.
        strict: Whether weights that do not fit are an error; else they are a warning, and what
            fits is loaded. Defaults to True.

    Returns:
        What was loaded and what was not.

    Raises:
        CheckpointError: If the file cannot be read, holds no ViT, or its weights do not fit.
    """
    model: Any = module.timm_model
    own = model.state_dict()
    tensors = load_checkpoint_file(checkpoint)
    try:
        source = recognize(tensors, network)
        state = _fit(tensors, source, model, own)
    except CheckpointError as error:
        raise CheckpointError(f'{checkpoint} cannot be used: {error}.') from error
    fits = {n: t for n, t in state.items() if n in own and t.shape == own[n].shape}
    report = LoadReport(
        checkpoint=str(checkpoint),
        format=source.format.title,
        network=source.prefix,
        backbone=f'{type(module).__name__} ({type(model).__name__} of timm)',
        loaded=list(fits),
        resized=_resized(tensors, source, fits),
        new=[] if getattr(module, 'mask_token', None) is None else ['mask_token'],
        missing=[name for name in own if name not in fits],
    )
    for name in (name for name in state if name not in fits):
        kind = 'mask token' if name in MASK_TOKENS else source.format.why_left_out(name)
        if kind and name not in own:
            report.left_out.setdefault(kind, []).append(name)
        else:
            report.unexpected.append(name)
    if report.missing or report.unexpected:
        report.differences.append(
            f'It lacks {summary(report.missing) or "nothing"} and has no place for '
            f'{summary(report.unexpected) or "nothing"}: give the backbone the model_name and the '
            'settings of timm (img_size, global_pool, ...) of the network that was stored.'
        )
    if not fits or (report.differences and strict):
        raise CheckpointError(
            f'{report}\nWith strict=False what fits, if anything, is loaded with a warning.'
        )
    model.load_state_dict(fits, strict=False)
    return report


def _resized(
    tensors: dict[str, Tensor], source: Network, fits: dict[str, Tensor]
) -> dict[str, str]:
    given = {name: tensors.get(source.prefix + name) for name in fits}
    return {
        name: f'to {tuple(fits[name].shape)}'
        for name, tensor in given.items()
        if tensor is not None and tensor.shape != fits[name].shape
    }


def _fit(
    tensors: dict[str, Tensor], source: Network, model: Any, own: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The network's weights under timm's names and, where timm can resize them, in its shapes."""
    state = {
        name.removeprefix(source.prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(source.prefix)
    }
    if TIMM.anchor not in state:  # names of mmpretrain or Hugging Face
        state = revert(source.weights.state, TIMM, own)
    if all(name in state and state[name].shape == tensor.shape for name, tensor in own.items()):
        return state
    adapt = getattr(sys.modules[type(model).__module__], 'checkpoint_filter_fn', None)
    if adapt is None:
        return state
    try:
        return adapt(state, model)
    except RuntimeError as error:
        raise CheckpointError(f'timm cannot fit it to {type(model).__name__}: {error}') from error
