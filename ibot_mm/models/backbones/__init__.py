# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .swin import MaskedSwinTransformer
from .timm_vit import TimmVisionTransformer
from .vit import MaskedVisionTransformer
from .vit_pyramid import ViTPyramid
from .windowed_vit import WindowedVisionTransformer

__all__ = [
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'TimmVisionTransformer',
    'ViTPyramid',
    'WindowedVisionTransformer',
]
