# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from .knn_metric import KNNAccuracy

__all__ = ['KNNAccuracy']
