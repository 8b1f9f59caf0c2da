# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .cache import FeatureCache, FeatureCacheError
from .clustering import clustering_metrics
from .clustering_metric import ClusteringAccuracy
from .extraction import Loading, extract_features
from .features import (
    NEIGHBORS,
    FeatureExtractor,
    FeatureLayout,
    FeatureSettings,
    cover,
    linear_settings,
)
from .frozen_splits import FrozenSplits
from .knn_metric import KNNAccuracy
from .pixels import PixelExtractor
from .protocols import PROTOCOLS, Measurement, Options, best_of
from .results import make_table, summary_rows, versions, write_results
from .run import check_protocols, extract_splits, run_protocols
from .splits import DataError, check_splits, folder_splits
from .sweep_accuracy import SweepAccuracy
from .views import evaluation_view

__all__ = [
    'NEIGHBORS',
    'PROTOCOLS',
    'ClusteringAccuracy',
    'DataError',
    'FeatureCache',
    'FeatureCacheError',
    'FeatureExtractor',
    'FeatureLayout',
    'FeatureSettings',
    'FrozenSplits',
    'KNNAccuracy',
    'Loading',
    'Measurement',
    'Options',
    'PixelExtractor',
    'best_of',
    'check_protocols',
    'check_splits',
    'clustering_metrics',
    'cover',
    'extract_features',
    'extract_splits',
    'folder_splits',
    'SweepAccuracy',
    'linear_settings',
    'make_table',
    'run_protocols',
    'summary_rows',
    'evaluation_view',
    'versions',
    'write_results',
]
