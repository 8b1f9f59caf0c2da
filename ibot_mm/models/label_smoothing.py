# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Cross-entropy with smoothed targets."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ibot_mm.registry import MODELS


@MODELS.register_module()
class SmoothedCrossEntropy(nn.Module):
    """Cross-entropy of labels or mixed scores, smoothed: on 1 - s + s / C, off s / C.

    mmpretrain's ``LabelSmoothLoss`` is the same in float32 and rounds targets to it. Scores are
    smoothed after they were mixed, where the published code smooths before; both are linear.

    Args:
        smoothing (float): Share s of a target that is spread over all C classes. Defaults to 0.1.

    Raises:
        ValueError: If ``smoothing`` is not from 0 on and below 1.
    """

    def __init__(self, smoothing: float = 0.1) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise ValueError(f'smoothing must be from 0 on and below 1, got {smoothing}.')
        self.smoothing = smoothing

    def targets(self, scores: Tensor) -> Tensor:
        """Compute smoothed targets of scores (B, C)."""
        return (1 - self.smoothing) * scores + self.smoothing / scores.shape[1]

    def forward(
        self, cls_score: Tensor, label: Tensor, avg_factor: float | None = None, **kwargs: Any
    ) -> Tensor:
        """Compute the mean over the images.

        Args:
            cls_score: Logits (B, C).
            label: Labels (B,), or scores (B, C).
            avg_factor: Number to divide by. Defaults to None, B.
            **kwargs: Of mmpretrain's heads; not used.
        """
        if label.ndim == 1:
            label = F.one_hot(label, cls_score.shape[1]).to(cls_score.dtype)
        losses = -(self.targets(label) * cls_score.log_softmax(dim=1)).sum(dim=1)
        return losses.sum() / (avg_factor or len(losses))
