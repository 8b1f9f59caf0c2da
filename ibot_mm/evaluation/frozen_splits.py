# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a protocol works on: features and labels of a training and a held-out split."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from .features import NEIGHBORS, FeatureLayout, FeatureSettings
from .splits import DataError


@dataclass(frozen=True)
class FrozenSplits:
    """Features and labels.

    Args:
        train: Features (N, C) of the training images, in memory or mapped from the disk.
        train_labels: Class ids (N,).
        held_out: Features (M, C).
        held_out_labels: Class ids (M,).
        layout: Which columns are what.
        num_classes: Number of classes.
        linear: The feature of linear probing.
        project: [CLS] tokens (B, D) to logits (B, K) of the projection head. Defaults to None, not
            available.
        key: What features and labels depend on, in short. Defaults to '', not known.
    """

    train: Tensor
    train_labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor
    layout: FeatureLayout
    num_classes: int
    linear: FeatureSettings = NEIGHBORS
    project: Callable[[Tensor], Tensor] | None = None
    key: str = ''

    def features(self, settings: FeatureSettings = NEIGHBORS) -> tuple[Tensor, Tensor]:
        """Return the features of both splits; [CLS] of the last block by default."""
        columns = self.layout.columns(settings)
        return self.train[:, columns], self.held_out[:, columns]

    def take(self, rows: Tensor) -> 'FrozenSplits':
        """Return the same with some of the training images, which are read into memory.

        Args:
            rows: Their numbers.
        """
        return replace(self, train=self.train[rows], train_labels=self.train_labels[rows])

    def check_size(self, ks: tuple[int, ...]) -> None:
        """Refuse more neighbors than there are training images.

        Raises:
            DataError: If a k is larger.
        """
        number = len(self.train_labels)
        if too_large := [k for k in ks if k > number]:
            raise DataError(
                f'there are {number} training images, fewer than k={too_large[0]}: choose '
                'smaller numbers of neighbors'
            )
