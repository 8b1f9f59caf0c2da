# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .ablation import draw_ablation, save_ablation
from .attention import draw_attention, save_attention
from .attention_weights import cls_attention
from .correspondence import draw_correspondence, find_matches, score_views
from .curves import draw_curves, find_scalars, read_curves, save_curves
from .embedding import draw_embedding, embed
from .evaluation import draw_evaluation, save_evaluation
from .neighbors import draw_neighbors, read_cls
from .network import read_attention, read_tokens
from .patterns import draw_patterns, find_patterns
from .pca import color_patches, draw_pca
from .picture import Picture
from .predictions import draw_samples, predict_samples, save_table_of_pictures
from .similarity import draw_similarity
from .style import save_figure
from .video import attention_frames, pick_frames, read_frames, write_video

__all__ = [
    'Picture',
    'attention_frames',
    'cls_attention',
    'color_patches',
    'draw_ablation',
    'draw_attention',
    'draw_correspondence',
    'draw_curves',
    'draw_embedding',
    'draw_evaluation',
    'draw_neighbors',
    'draw_patterns',
    'draw_pca',
    'draw_samples',
    'draw_similarity',
    'embed',
    'find_matches',
    'find_patterns',
    'find_scalars',
    'pick_frames',
    'predict_samples',
    'read_attention',
    'read_cls',
    'read_curves',
    'read_frames',
    'read_tokens',
    'save_ablation',
    'save_attention',
    'save_curves',
    'save_evaluation',
    'save_figure',
    'save_table_of_pictures',
    'score_views',
    'write_video',
]
