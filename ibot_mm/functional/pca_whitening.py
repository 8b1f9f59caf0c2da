# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whitening of features by their principal components, for copy detection."""

from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 8192  # rows in double precision at once


class PCAWhitening(NamedTuple):
    """A linear map of features.

    Args:
        mean: Subtracted first, (C,).
        projection: Rows are principal components, the largest first, divided by a power of their
            eigenvalues; (C, C).
    """

    mean: Tensor
    projection: Tensor

    def apply(self, features: Tensor) -> Tensor:
        """Whiten features (N, C)."""
        return (features - self.mean.to(features)) @ self.projection.to(features).T


def fit_pca_whitening(features: Tensor, power: float = 0.5, floor: float = 1e-5) -> PCAWhitening:
    """Find the whitening of features, as published for copy detection.

    The mean is subtracted of what is whitened, and yet the components are those of the products
    of the features as they are, not less their mean. All of them are kept.

    Args:
        features: Shape (N, C), read part by part: they may be mapped from a disk.
        power: Of the eigenvalues by which components are divided. Defaults to 0.5.
        floor: Smaller eigenvalues are raised to this share of the largest. Defaults to 1e-5.

    Raises:
        ValueError: If there are no features.
    """
    if len(features) == 0:
        raise ValueError('whitening needs features of at least one image, got none')
    total = features.new_zeros(features.shape[1], dtype=torch.float64)
    products = features.new_zeros((features.shape[1],) * 2, dtype=torch.float64)
    for part in features.split(CHUNK):
        rows = part.double()
        total += rows.sum(dim=0)
        products += rows.T @ rows
    values, vectors = torch.linalg.eigh(products / len(features))
    values, vectors = values.flip(0), vectors.flip(1)
    values = values.clamp(min=floor * float(values[0]))
    return PCAWhitening(total / len(features), (vectors / values**power).T)
