# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Features of an image from the tokens of a network."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

POOLINGS = ('cls', 'patch_mean', 'cls_patch_mean')
SCALES = (1.0, 2**-0.5, 0.5)


def pool_tokens(blocks: Sequence[Tensor], pooling: str = 'cls') -> Tensor:
    """Make one feature of each image from the tokens of the last blocks.

    Args:
        blocks: For each block, in network order, tokens (B, 1 + N, D), [CLS] first. Blocks may
            differ in N and D, as those of a Swin do.
        pooling: 'cls' concatenates [CLS] of all blocks; 'patch_mean' is the mean of the last
            block's patches; 'cls_patch_mean' appends that mean to the former. These are 0, 1 and 2
            of the published ``avgpool_patchtokens``. Defaults to 'cls'.

    Returns:
        Shape (B, C).

    Raises:
        ValueError: If ``pooling`` is none of these.
    """
    check_pooling(pooling)
    features = [tokens[:, 0] for tokens in blocks] if pooling != 'patch_mean' else []
    if pooling != 'cls':
        features.append(blocks[-1][:, 1:].mean(dim=1))
    return torch.cat(features, dim=-1)


def check_pooling(pooling: str) -> None:
    """Refuse names that are not in ``POOLINGS``.

    Raises:
        ValueError: If it is not.
    """
    if pooling not in POOLINGS:
        raise ValueError(f'pooling must be one of {POOLINGS}, got {pooling!r}')


def generalized_mean(patches: Tensor, power: float = 4.0, smallest: float = 1e-6) -> Tensor:
    """Pool patches by the generalized mean (GeM, arXiv 1711.02512).

    Args:
        patches: Shape (B, N, D).
        power: Defaults to 4, of copy detection.
        smallest: Values below are raised to it. Defaults to 1e-6.

    Returns:
        Shape (B, D).
    """
    return patches.clamp(min=smallest).pow(power).mean(dim=1).pow(1 / power)


def cls_generalized_mean(tokens: Tensor, power: float = 4.0) -> Tensor:
    """Put the generalized mean of the patches behind [CLS], as published for copy detection.

    Args:
        tokens: Shape (B, 1 + N, D), [CLS] first.
        power: Of the mean. Defaults to 4.

    Returns:
        Shape (B, 2 * D).
    """
    return torch.cat([tokens[:, 0], generalized_mean(tokens[:, 1:], power)], dim=1)


def multi_scale_features(
    extract: Callable[[Tensor], Tensor], images: Tensor, scales: Sequence[float] = SCALES
) -> Tensor:
    """Compute the mean of the features of an image at several scales, of length 1.

    As published for retrieval: images are resized bilinearly without antialiasing, to sizes
    rounded down, and features are added as they are.

    Args:
        extract: Images (B, 3, h, w) of any size to features (B, C).
        images: Shape (B, 3, H, W).
        scales: Defaults to 1, 1/√2 and 1/2.

    Returns:
        Shape (B, C).
    """
    features = [extract(_scaled(images, scale)) for scale in scales]
    return F.normalize(torch.stack(features).mean(dim=0), dim=1)


def _scaled(images: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return images
    return F.interpolate(images, scale_factor=scale, mode='bilinear', align_corners=False)
