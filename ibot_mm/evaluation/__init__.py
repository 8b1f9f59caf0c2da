# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .features import NEIGHBORS, FeatureExtractor, FeatureSettings, linear_settings
from .knn_metric import KNNAccuracy

__all__ = [
    'NEIGHBORS',
    'FeatureExtractor',
    'FeatureSettings',
    'KNNAccuracy',
    'linear_settings',
]
