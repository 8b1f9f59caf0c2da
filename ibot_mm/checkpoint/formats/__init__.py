# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every known format of ViT weights, one table each."""

from .clip import CLIP, HF_CLIP, TORCHVISION
from .hugging_face import HF_DINOV2, HF_DINOV2_5, HF_DINOV3, HF_DINOV3_5, HF_VIT, HF_VIT_5
from .openmmlab import MMPRETRAIN, MMPRETRAIN_BEIT, MMSEG
from .timm import BEIT, DINOV2, DINOV3, MAE, PUBLISHED, TIMM, TIMM_DINOV3

# Where several formats explain all names of a network, the first is taken.
FORMATS = (
    MMPRETRAIN,
    MMPRETRAIN_BEIT,
    MMSEG,
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
    HF_CLIP,
    CLIP,
    TORCHVISION,
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
]
