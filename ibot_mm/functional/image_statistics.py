# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images normalized by the statistics of ImageNet."""

from collections.abc import Sequence

from torch import Tensor

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # RGB, of ImageNet


def normalize(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Normalize RGB images (..., 3, H, W) of 0 to 255, by default by ImageNet's statistics."""
    center, scale = (images.new_tensor(values)[:, None, None] for values in (mean, std))
    return (images - center) / scale
