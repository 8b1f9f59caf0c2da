# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from ibot_mm.foreign_errors import explain_out_type

from .backbones import (
    MaskedSwinTransformer,
    MaskedVisionTransformer,
    TimmVisionTransformer,
    ViTPyramid,
    WindowedVisionTransformer,
)
from .batch_augments import ReversedCutMix, ReversedMixup
from .frozen_features import FrozenFeatures
from .head import IBOTHead
from .ibot import IBOT
from .label_smoothing import SmoothedCrossEntropy
from .linear_sweep import LinearSweepHead
from .neck import IBOTNeck
from .norm import SyncBatchNorm
from .preprocessor import MultiCropPreprocessor
from .projection_layers import ProjectionLayers
from .pyramid import DeconvPyramid, SimplePyramid
from .regularizers import GramLoss, InfoNCELoss, KoLeoLoss
from .teacher import EMATeacher
from .tokenizers import ClusterTokenizer, FrozenTokenizer, RandomTokenizer

__all__ = [
    'IBOT',
    'ClusterTokenizer',
    'DeconvPyramid',
    'EMATeacher',
    'FrozenFeatures',
    'FrozenTokenizer',
    'GramLoss',
    'IBOTHead',
    'IBOTNeck',
    'InfoNCELoss',
    'KoLeoLoss',
    'LinearSweepHead',
    'MaskedSwinTransformer',
    'MaskedVisionTransformer',
    'MultiCropPreprocessor',
    'ProjectionLayers',
    'RandomTokenizer',
    'ReversedCutMix',
    'ReversedMixup',
    'SimplePyramid',
    'SmoothedCrossEntropy',
    'SyncBatchNorm',
    'TimmVisionTransformer',
    'ViTPyramid',
    'WindowedVisionTransformer',
]

explain_out_type()
