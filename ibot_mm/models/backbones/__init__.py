# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .swin import MaskedSwinTransformer
from .vit import MaskedVisionTransformer
from .vit_pyramid import ViTPyramid
from .windowed_vit import WindowedVisionTransformer

__all__ = [
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'ViTPyramid',
    'WindowedVisionTransformer',
]
