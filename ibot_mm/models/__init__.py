# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .backbones import (
    MaskedSwinTransformer,
    MaskedVisionTransformer,
    TimmVisionTransformer,
    ViTPyramid,
    WindowedVisionTransformer,
)
from .head import IBOTHead
from .ibot import IBOT
from .neck import IBOTNeck
from .norm import SyncBatchNorm
from .preprocessor import MultiCropPreprocessor
from .pyramid import DeconvPyramid, SimplePyramid
from .teacher import EMATeacher

__all__ = [
    'IBOT',
    'DeconvPyramid',
    'EMATeacher',
    'IBOTHead',
    'IBOTNeck',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'MultiCropPreprocessor',
    'SimplePyramid',
    'SyncBatchNorm',
    'TimmVisionTransformer',
    'ViTPyramid',
    'WindowedVisionTransformer',
]
