# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Mixup and CutMix of each image with its mirror in the batch."""

import numpy as np
from mmpretrain.models.utils.batch_augments import CutMix, Mixup
from torch import Tensor

from ibot_mm.registry import BATCH_AUGMENTS


class _Reversed:
    """Keeps the scores' type, where mmpretrain's batch augments round them to float32."""

    def __call__(self, batch_inputs: Tensor, batch_score: Tensor) -> tuple[Tensor, Tensor]:
        scores = batch_score if batch_score.is_floating_point() else batch_score.float()
        return self.mix(batch_inputs, scores)  # type: ignore[attr-defined]


@BATCH_AUGMENTS.register_module()
class ReversedMixup(_Reversed, Mixup):
    """mmpretrain's ``Mixup`` as timm does it: the partners are the batch in reverse order.

    So no permutation is sampled, and with an even batch no image is mixed with itself.

    Args:
        alpha (float): Of the Beta distribution of the share that an image keeps.
    """

    def mix(self, batch_inputs: Tensor, batch_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images (B, 3, H, W) and scores (B, C)."""
        share = np.random.beta(self.alpha, self.alpha)
        return (
            share * batch_inputs + (1 - share) * batch_inputs.flip(0),
            share * batch_scores + (1 - share) * batch_scores.flip(0),
        )


@BATCH_AUGMENTS.register_module()
class ReversedCutMix(_Reversed, CutMix):
    """mmpretrain's ``CutMix`` as timm does it: the partners are the batch in reverse order.

    Args:
        alpha (float): Of the Beta distribution of the area that an image keeps.
        cutmix_minmax (list[float], optional): As in mmpretrain. Defaults to None.
        correct_lam (bool): Whether shares of scores are those of the area that is left once the box
            is cut at the borders. Defaults to True.
    """

    def mix(self, batch_inputs: Tensor, batch_scores: Tensor) -> tuple[Tensor, Tensor]:
        """Mix images (B, 3, H, W) and scores (B, C)."""
        share = np.random.beta(self.alpha, self.alpha)
        (top, bottom, left, right), share = self.cutmix_bbox_and_lam(batch_inputs.shape[-2:], share)
        mixed = batch_inputs.clone()
        mixed[..., top:bottom, left:right] = batch_inputs.flip(0)[..., top:bottom, left:right]
        return mixed, share * batch_scores + (1 - share) * batch_scores.flip(0)
