# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .ablation import draw_ablation, save_ablation
from .attention import draw_attention, save_attention
from .attention_weights import cls_attention
from .curves import draw_curves, find_scalars, read_curves, save_curves
from .evaluation import draw_evaluation, save_evaluation
from .predictions import draw_samples, predict_samples, save_table_of_pictures

__all__ = [
    'cls_attention',
    'draw_ablation',
    'draw_attention',
    'draw_curves',
    'draw_evaluation',
    'draw_samples',
    'find_scalars',
    'predict_samples',
    'read_curves',
    'save_ablation',
    'save_attention',
    'save_curves',
    'save_evaluation',
    'save_table_of_pictures',
]
