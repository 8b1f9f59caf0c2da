# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Raw pixels as features, to tell what a network adds."""

import torch.nn.functional as F
from torch import Tensor, nn

from .features import NEIGHBORS, FeatureLayout, FeatureSettings

SIDE = 32


class PixelExtractor(nn.Module):
    """Pixels of an image, made smaller by averaging if they are more than 32 on a side.

    Cosine similarity needs them centered, which only the mean of the training images tells: see
    ``center`` of :func:`~ibot_mm.evaluation.run.extract_splits`.
    """

    settings: FeatureSettings = NEIGHBORS

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features (B, 3 * h * w) of images (B, 3, H, W)."""
        height, width = images.shape[-2:]
        size = min(SIDE, height), min(SIDE, width)
        return F.adaptive_avg_pool2d(images, size).flatten(1)

    def layout(self, images: Tensor) -> FeatureLayout:
        """Return the columns of the features, seen from some images (B, 3, H, W)."""
        return FeatureLayout((self(images).shape[1],))
