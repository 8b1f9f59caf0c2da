# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .backbones import MaskedVisionTransformer
from .head import IBOTHead
from .ibot import IBOT
from .neck import IBOTNeck
from .norm import SyncBatchNorm
from .preprocessor import MultiCropPreprocessor
from .teacher import EMATeacher

__all__ = [
    'IBOT',
    'EMATeacher',
    'IBOTHead',
    'IBOTNeck',
    'MaskedVisionTransformer',
    'MultiCropPreprocessor',
    'SyncBatchNorm',
]
