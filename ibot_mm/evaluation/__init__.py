# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .cache import FeatureCache, FeatureCacheError
from .classifier import Classifier, imagenet_classes, linear_classifier
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
from .run_tasks import GROUP, check_classes, check_names, check_tasks, name_group, run_tasks
from .splits import DataError, check_splits, folder_splits, labeled_splits
from .sweep_accuracy import SweepAccuracy
from .tasks import CLASS_CHECKS, TASKS, TaskNetwork
from .views import evaluation_view

__all__ = [
    'CLASS_CHECKS',
    'GROUP',
    'NEIGHBORS',
    'PROTOCOLS',
    'TASKS',
    'Classifier',
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
    'TaskNetwork',
    'best_of',
    'check_classes',
    'check_names',
    'check_protocols',
    'check_splits',
    'check_tasks',
    'clustering_metrics',
    'cover',
    'extract_features',
    'extract_splits',
    'folder_splits',
    'labeled_splits',
    'SweepAccuracy',
    'imagenet_classes',
    'linear_classifier',
    'linear_settings',
    'make_table',
    'name_group',
    'run_protocols',
    'run_tasks',
    'summary_rows',
    'evaluation_view',
    'versions',
    'write_results',
]
