# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Clipping of each parameter's gradient by its own norm."""

from typing import Any

from mmengine.optim import OptimWrapper

from ibot_mm.private_api import norms_of, scale_
from ibot_mm.registry import OPTIM_WRAPPERS

from .mixed_precision import AmpOptimWrapper


class _PerParameterClipping(OptimWrapper):
    """Replaces the global norm of mm's wrappers, at the same place: after unscaling, once a step.

    ``clip_grad=dict(max_norm=...)`` as in every mm config.
    """

    def _clip_grad(self) -> None:
        gradients = [
            parameter.grad
            for group in self.optimizer.param_groups
            for parameter in group['params']
            if parameter.grad is not None
        ]
        if not gradients:
            return
        norms = norms_of(gradients)
        scale_(gradients, (self.clip_grad_kwargs['max_norm'] / (norms + 1e-6)).clamp(max=1))
        self.message_hub.update_scalar(f'train/{self.grad_name}', norms.norm())


def _check_clip_grad(clip_grad: dict | None) -> dict:
    """Accept ``dict(max_norm=positive number)`` only, before training starts."""
    if not clip_grad or set(clip_grad) != {'max_norm'} or not clip_grad['max_norm'] > 0:
        raise ValueError(
            'Per-parameter clipping needs clip_grad=dict(max_norm=...) with a positive number, '
            f'got {clip_grad}. For no clipping use the stock OptimWrapper or AmpOptimWrapper.'
        )
    return clip_grad


@OPTIM_WRAPPERS.register_module()
class PerParameterClipOptimWrapper(_PerParameterClipping):
    """mmengine's ``OptimWrapper`` that clips each parameter by its own norm.

    A gradient g becomes ``g * min(1, max_norm / (|g| + 1e-6))``. The norm of all gradients
    together, before clipping, is logged as ``grad_norm``.

    Args:
        clip_grad (dict): ``dict(max_norm=...)``.
        **kwargs: As :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``clip_grad`` is of another form.
    """

    def __init__(self, *args: Any, clip_grad: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, clip_grad=_check_clip_grad(clip_grad), **kwargs)


@OPTIM_WRAPPERS.register_module()
class PerParameterClipAmpOptimWrapper(_PerParameterClipping, AmpOptimWrapper):
    """:class:`AmpOptimWrapper` that clips each parameter by its own norm, after unscaling.

    Args:
        clip_grad (dict): ``dict(max_norm=...)``.
        **kwargs: As :class:`AmpOptimWrapper`.

    Raises:
        ValueError: If ``clip_grad`` is of another form.
    """

    def __init__(self, *args: Any, clip_grad: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, clip_grad=_check_clip_grad(clip_grad), **kwargs)
