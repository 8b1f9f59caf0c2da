# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The contrastive loss: views of one image find each other among those of the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce_loss(features: Tensor, temperature: float = 0.2) -> Tensor:
    """Compute the cross-entropy of choosing the other views of an image from all views of a batch.

    For two views it is NT-Xent (Chen et al., arXiv 2002.05709, equation 1); for more, the mean of
    the logarithms over the other views of the image.

    Args:
        features: Shape (G, B, D), G of 2 or more. They are normalized here.
        temperature: Defaults to 0.2.

    Returns:
        Scalar, float32 at least.

    Raises:
        ValueError: If there are fewer than two views or two images.
    """
    num_views, num_images = features.shape[:2]
    if num_views < 2 or num_images < 2:
        raise ValueError(
            f'A contrastive loss needs two views and two images, got {num_views} and {num_images}.'
        )
    precise = features.to(torch.promote_types(features.dtype, torch.float32))
    points = F.normalize(precise.flatten(0, 1), dim=1)
    logits = (points @ points.T / temperature).fill_diagonal_(-torch.inf)
    image = torch.arange(num_images, device=features.device).repeat(num_views)
    is_other_view = (image == image[:, None]).fill_diagonal_(False)
    return -logits.log_softmax(dim=1)[is_other_view].mean()
