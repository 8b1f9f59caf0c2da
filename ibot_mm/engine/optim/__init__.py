# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .decay_groups import DecayGroupsConstructor
from .gradient_clipping import PerParameterClipAmpOptimWrapper, PerParameterClipOptimWrapper
from .schedulers import WarmupCosine

__all__ = [
    'DecayGroupsConstructor',
    'PerParameterClipAmpOptimWrapper',
    'PerParameterClipOptimWrapper',
    'WarmupCosine',
]
