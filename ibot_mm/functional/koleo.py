# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The KoLeo regularizer: features of a batch keep away from each other."""

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-8  # as in DINOv2


def koleo_loss(features: Tensor) -> Tensor:
    """Compute minus the mean logarithm of the distance of each feature to its nearest neighbor.

    The estimate of differential entropy by Kozachenko and Leonenko, on the unit sphere
    (Sablayrolles et al., arXiv 1806.03198; DINOv2, arXiv 2304.07193, section 4).

    Args:
        features: Of different images, shape (B, D). They are normalized here.

    Returns:
        Scalar, float32 at least.

    Raises:
        ValueError: If there are fewer than two features.
    """
    if len(features) < 2:
        raise ValueError(f'KoLeo needs two images in a batch, got {len(features)}.')
    points = F.normalize(features.to(torch.promote_types(features.dtype, torch.float32)), eps=EPS)
    with torch.no_grad():
        nearest = (points @ points.T).fill_diagonal_(-1).argmax(dim=1)
    distance = F.pairwise_distance(points, points[nearest], eps=EPS)
    return -(distance + EPS).log().mean()
