# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .decay_groups import DecayGroupsConstructor
from .gradient_clipping import PerParameterClipAmpOptimWrapper, PerParameterClipOptimWrapper
from .layer_decay import LayerDecayConstructor
from .mixed_precision import AmpOptimWrapper
from .schedulers import WarmupCosine
from .sweep import SweepConstructor, SweepOptimizer
from .transfer_schedule import DelayedWarmupCosine
from .update_schedule import WarmupCosineByUpdate

__all__ = [
    'AmpOptimWrapper',
    'DecayGroupsConstructor',
    'DelayedWarmupCosine',
    'LayerDecayConstructor',
    'PerParameterClipAmpOptimWrapper',
    'PerParameterClipOptimWrapper',
    'SweepConstructor',
    'SweepOptimizer',
    'WarmupCosine',
    'WarmupCosineByUpdate',
]
