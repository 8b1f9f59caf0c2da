# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Errors of mm packages around backbones of this one, in words that help.

The tools of this project refuse such configs before they run (:mod:`ibot_mm.compatibility`); this
is for the tools of other packages.
"""

from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# What mmdet and mmseg have for their own backbones, told by the names of their classes.
STOCK_LAYER_DECAY = ('LearningRateDecayOptimizerConstructor', 'LayerDecayOptimizerConstructor')
LAYER_DECAY_ADVICE = (
    'Use optim_wrapper=dict(constructor="ibot_mm.LayerDecayConstructor", '
    'paramwise_cfg=dict(_delete_=True, layer_decay_rate=...)): it reads the number of layers from '
    'the backbone.'
)
OUT_TYPE_ADVICE = (
    'gives all tokens, (B, 1 + N, D), and the head of a classifier takes one vector for each '
    'image: set model.backbone.out_type="cls_token"; with MaskedSwinTransformer use '
    'mmpretrain.SwinTransformer and GlobalAveragePooling instead.'
)


def explain_layer_decay() -> None:
    """Let mmdet's and mmseg's layer-wise learning rate decay say what it does not know.

    They know their own backbones, by the names of the classes, and raise a bare
    ``NotImplementedError`` at others.
    """
    from mmengine.optim import DefaultOptimWrapperConstructor

    original = DefaultOptimWrapperConstructor.__call__
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def call(self: Any, model: Any) -> Any:
        try:
            return original(self, model)
        except (NotImplementedError, TypeError) as error:
            backbone = getattr(getattr(model, 'module', model), 'backbone', None)
            if type(self).__name__ not in STOCK_LAYER_DECAY or not _is_ours(backbone):
                raise
            raise ValueError(
                f'{type(self).__name__} of {type(self).__module__.split(".")[0]} does not know '
                f'the layers of {type(backbone).__name__}. {LAYER_DECAY_ADVICE}'
            ) from error

    DefaultOptimWrapperConstructor.__call__ = call


def explain_out_type() -> None:
    """Let the head of a classifier say that it got all tokens, where its loss fails.

    The loss itself says ``Expected target size``.
    """
    from mmpretrain.models.heads import ClsHead

    original = ClsHead._get_loss
    if hasattr(original, '__wrapped__'):
        return

    @wraps(original)
    def get_loss(self: Any, cls_score: 'Tensor', *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, cls_score, *args, **kwargs)
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            if cls_score.ndim != 3:
                raise
            raise ValueError(
                f'{type(self).__name__} got scores of shape {tuple(cls_score.shape)}: the backbone '
                f'{OUT_TYPE_ADVICE}'
            ) from error

    ClsHead._get_loss = get_loss


def _is_ours(backbone: Any) -> bool:
    return type(backbone).__module__.startswith('ibot_mm.')
