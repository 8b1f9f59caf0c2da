# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .attention import cls_attention, draw_attention, save_attention
from .curves import draw_curves, find_scalars, read_curves, save_curves

__all__ = [
    'cls_attention',
    'draw_attention',
    'draw_curves',
    'find_scalars',
    'read_curves',
    'save_attention',
    'save_curves',
]
