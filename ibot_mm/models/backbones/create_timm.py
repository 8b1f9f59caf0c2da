# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Vision Transformers of timm, and why others cannot serve."""

from difflib import get_close_matches
from functools import cache
from typing import Any

import torch
from packaging.version import Version
from torch import nn

MINIMUM_VERSION = '1.0.21'  # before it, models could not be outlined without memory


def create_timm_vit(model_name: str, **kwargs: Any) -> Any:
    """Create a Vision Transformer of timm without classifier, for images of any size if it can.

    Args:
        model_name: As ``timm.create_model`` takes it.
        **kwargs: The same.

    Returns:
        The model, see :class:`TimmVisionTransformer` for the classes that it can be of.

    Raises:
        ImportError: If timm is not installed or too old.
        ValueError: If timm has no such model, or its patches cannot be masked.
    """
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"'{model_name}' is a model of timm: pip install timm") from error
    if Version(timm.__version__) < Version(MINIMUM_VERSION):
        raise ImportError(
            f'timm {timm.__version__} is older than {MINIMUM_VERSION}: pip install --upgrade timm'
        )
    source, name = timm.models.parse_model_name(model_name)
    if source is None and not timm.is_model(name):
        near = get_close_matches(name.partition('.')[0], timm.list_models(), n=5)
        raise ValueError(
            f"timm {timm.__version__} has no model '{model_name}'"
            + (f'; near are {", ".join(near)}.' if near else ': see timm.list_models().')
        )
    options = size_options(model_name) | kwargs
    model = timm.create_model(model_name, num_classes=0, **options)
    if not isinstance(getattr(model, 'patch_drop', None), nn.Identity | None):
        raise ValueError('patch_drop_rate drops patches that the loss reads: leave it out.')
    if model.cls_token is None and not model.global_pool:
        raise ValueError(
            f"'{model_name}' has no [CLS], and global_pool='' leaves nothing to stand for it: "
            "set global_pool='avg'."
        )
    return model


@cache
def size_options(model_name: str) -> dict[str, bool]:
    """Find the options by which a model of timm takes images of any size; none, if it cannot.

    Args:
        model_name: As ``timm.create_model`` takes it.

    Raises:
        ValueError: If the model's patches cannot be masked.
    """
    import timm

    with torch.device('meta'):  # no memory, and next to no time
        model = timm.create_model(model_name, num_classes=0)
    if reason := _why_not(model):
        raise ValueError(f"'{model_name}' of timm cannot be masked: {reason}")
    if hasattr(model, 'dynamic_img_size'):
        return dict(dynamic_img_size=True, dynamic_img_pad=True)
    return {}


def _why_not(model: Any) -> str | None:
    """Why a model of timm cannot serve, or None if it can."""
    from timm.layers import PatchEmbed
    from timm.models.beit import Beit
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    kind = type(model).__name__
    strides = {level['reduction'] for level in model.feature_info}
    if len(strides) > 1:
        return (
            f'{kind} is convolutional or hierarchical, with maps of strides {sorted(strides)}, so '
            'that no patch tokens go through all layers. The one backbone of this kind here is '
            'ibot_mm.MaskedSwinTransformer.'
        )
    if not isinstance(model, VisionTransformer | Eva | Beit | VisionTransformerRelPos):
        return (
            f'{kind} treats its patches in another way than the plain Vision Transformers of timm: '
            'VisionTransformer, Eva, Beit and VisionTransformerRelPos.'
        )
    if not isinstance(model.patch_embed, PatchEmbed):
        return (
            f'its patches come from convolutions ({type(model.patch_embed).__name__}) and overlap, '
            'so that a masked one would show in its neighbors.'
        )
    return None
