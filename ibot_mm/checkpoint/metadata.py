# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is told beside the tensors of a checkpoint, as values of parts."""

from collections.abc import Mapping
from typing import Any

from .checkpoint import Checkpoint
from .specification import UNSEEN

# Arguments of ibot_mm.TimmVisionTransformer that timm does not get.
_NOT_OF_TIMM = (
    'type', 'model_name', 'mask_token', 'out_type', 'out_indices', 'final_norm', 'frozen_stages',
    'with_cp', 'init_cfg', 'pretrained',
)  # fmt: skip


def read_metadata(checkpoint: Checkpoint) -> tuple[dict[str, Any], str]:
    """Read the parts, and ``img_size``, that are told beside the tensors, and say where.

    They stand in Hugging Face's, OpenCLIP's or timm's JSON, or in the config that mmengine stores.
    """
    config: Mapping[str, Any] = checkpoint.config
    if isinstance(config.get('architecture'), str):  # timm's
        return _of_timm(config['architecture'], config.get('model_args') or {}), 'config.json'
    if isinstance(config.get('model_cfg'), dict):  # OpenCLIP's
        return _of_open_clip(config['model_cfg']), 'open_clip_config.json'
    nested = config.get('vision_config', config.get('backbone_config'))
    config = nested if isinstance(nested, dict) else config
    if config.get('num_attention_heads') or config.get('hidden_act'):  # Hugging Face's
        told = tell('json', dict(config)) | dict(img_size=pair(config.get('image_size')))
        if config.get('use_swiglu_ffn'):  # which has an activation of its own
            told['activation'] = 'silu'
        return told, 'config.json'
    backbone = checkpoint.backbone_config
    if backbone.get('model_name'):
        options = {k: v for k, v in backbone.items() if k not in _NOT_OF_TIMM}
        return _of_timm(backbone['model_name'], options), 'the config in the file'
    told = tell('config', backbone) | dict(img_size=pair(backbone.get('img_size')))
    return told, 'the config in the file'


def pair(size: Any) -> tuple[int, int] | None:
    """Return a size (H, W) that may be told as one number; None where it is not told."""
    sides = tuple(size) if isinstance(size, (list, tuple)) else (size, size)
    is_size = len(sides) == 2 and all(isinstance(side, int) and side > 0 for side in sides)
    return (sides[0], sides[1]) if is_size else None


def tell(source: str, of: Any) -> dict[str, Any]:
    """Read all that a source tells of parts that tensors do not show.

    Args:
        source: 'module', 'timm', 'json' or 'config', see :class:`Part`.
        of: Such a thing.
    """
    told = {}
    for part in UNSEEN:
        try:
            value = getattr(part, source)(of)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            continue  # it does not tell
        if part.allows(value):
            told[part.name] = value
    return told


def _of_timm(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        import timm
        import torch

        with torch.device('meta'):
            model = timm.create_model(name.split('/')[-1], num_classes=0, **options)
    except Exception:  # of a name or options that this timm does not know
        return {}
    return tell('timm', model)


def _of_open_clip(config: Mapping[str, Any]) -> dict[str, Any]:
    vision = config.get('vision_cfg')
    if not isinstance(vision, dict):
        return {}
    if vision.get('timm_model_name'):
        return _of_timm(vision['timm_model_name'], {})
    activation = 'quick_gelu' if config.get('quick_gelu') else 'gelu'
    told = dict(activation=activation, img_size=pair(vision.get('image_size')))
    try:
        return told | dict(num_heads=vision['width'] // vision.get('head_width', 64))
    except (KeyError, TypeError, ZeroDivisionError):
        return told
