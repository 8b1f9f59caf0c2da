# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every known format of ViT weights, one table each."""

from .hugging_face import HF_DINOV2, HF_DINOV2_5, HF_DINOV3, HF_DINOV3_5, HF_VIT, HF_VIT_5
from .mmpretrain import MMPRETRAIN, MMPRETRAIN_BEIT
from .table import Format, Row, match
from .timm_names import BEIT, DINOV2, DINOV3, MAE, PUBLISHED, TIMM, TIMM_DINOV3

# Where several formats explain all names of a network, the first is taken.
FORMATS = (
    MMPRETRAIN,
    MMPRETRAIN_BEIT,
    TIMM,
    PUBLISHED,
    MAE,
    BEIT,
    TIMM_DINOV3,
    DINOV2,
    DINOV3,
    HF_VIT,
    HF_VIT_5,
    HF_DINOV2,
    HF_DINOV2_5,
    HF_DINOV3,
    HF_DINOV3_5,
)

__all__ = [
    'FORMATS',
    'HF_DINOV2',
    'HF_DINOV3',
    'HF_VIT',
    'MMPRETRAIN',
    'PUBLISHED',
    'TIMM',
    'TIMM_DINOV3',
    'Format',
    'Row',
    'match',
]
