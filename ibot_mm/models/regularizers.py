# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Losses on the student's tokens beside those of the head."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ibot_mm.functional.gram import NEGATIVES, gram_loss
from ibot_mm.functional.info_nce import info_nce_loss
from ibot_mm.functional.koleo import koleo_loss
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import MODELS


@MODELS.register_module()
class KoLeoLoss(BaseModule):
    """Keeps the [CLS] features of different images apart (DINOv2, arXiv 2304.07193, section 4).

    The sum over global crops of :func:`~ibot_mm.functional.koleo.koleo_loss`; the nearest neighbor
    is looked for among the images of this process.

    Args:
        weight (float): Defaults to 0.1, as published.

    Raises:
        ValueError: If the weight is negative.
    """

    reads_patches = False

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        check_ranges(type(self).__name__, {'[0, inf)': dict(weight=weight)})
        self.weight = weight

    def forward(self, tokens: Tensor, global_crops: Tensor) -> Tensor:
        """Compute the weighted loss.

        Args:
            tokens: Student's tokens of the global crops, shape (G, B, 1 + N or 1, D), [CLS] first.
            global_crops: Not used.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            return self.weight * torch.stack([koleo_loss(view[:, 0]) for view in tokens]).sum()


@MODELS.register_module()
class InfoNCELoss(BaseModule):
    """Tells the [CLS] features of one image from those of all others of the batch.

    :func:`~ibot_mm.functional.info_nce.info_nce_loss` over the global crops, on the backbone's
    features without projection; the others are those of this process. Not in the paper: it is for
    small trainings, in which self-distillation alone has too few steps (docs/small_data.md).

    Args:
        weight (float): Defaults to 1.
        temperature (float): Defaults to 0.2.

    Raises:
        ValueError: If the weight is negative or the temperature not above 0.
    """

    reads_patches = False

    def __init__(self, weight: float = 1.0, temperature: float = 0.2) -> None:
        super().__init__()
        ranges = {'[0, inf)': dict(weight=weight), '(0, inf)': dict(temperature=temperature)}
        check_ranges(type(self).__name__, ranges)
        self.weight = weight
        self.temperature = temperature

    def forward(self, tokens: Tensor, global_crops: Tensor) -> Tensor:
        """Compute the weighted loss.

        Args:
            tokens: Student's tokens of the global crops, shape (G, B, 1 + N or 1, D), [CLS] first.
            global_crops: Not used.
        """
        with torch.autocast(tokens.device.type, enabled=False):
            return self.weight * info_nce_loss(tokens[:, :, 0], self.temperature)


@MODELS.register_module()
class GramLoss(BaseModule):
    """Keeps similarities between patches as an earlier network has them (Gram anchoring, DINOv3).

    arXiv 2508.10104, section 4.2. The earlier network is frozen and part of the model: it is in
    its checkpoints, so that a training can go on without the file. It sees the global crops whole.

    Args:
        backbone (dict): The earlier network, with ``init_cfg=dict(type='ibot_mm.Pretrained',
            checkpoint=...)``. It needs the student's patch size.
        weight (float): Defaults to 2, as published.
        within_image (bool): Whether to compare patches of the same image only. Defaults to True.
        negatives (str): 'keep', 'clip' or 'clip_teacher', see
            :func:`~ibot_mm.functional.gram.gram_loss`. Defaults to 'keep'.

    Raises:
        ValueError: If ``backbone.init_cfg`` names no checkpoint, ``weight`` is negative or
            ``negatives`` unknown.
    """

    reads_patches = True

    def __init__(
        self,
        backbone: dict,
        weight: float = 2.0,
        within_image: bool = True,
        negatives: str = 'keep',
    ) -> None:
        super().__init__()
        check_ranges(type(self).__name__, {'[0, inf)': dict(weight=weight)})
        if negatives not in NEGATIVES:
            raise ValueError(f'GramLoss: negatives must be one of {NEGATIVES}, got {negatives!r}')
        init_cfg = backbone.get('init_cfg')
        if not isinstance(init_cfg, Mapping) or not init_cfg.get('checkpoint'):
            raise ValueError(
                'GramLoss: backbone.init_cfg names no checkpoint, and a network that has not '
                "trained is not an anchor: set dict(type='ibot_mm.Pretrained', checkpoint=...)"
            )
        self.backbone = MODELS.build(backbone)
        self.backbone.requires_grad_(False)
        self.weight = weight
        self.within_image = within_image
        self.negatives = negatives

    def train(self, mode: bool = True) -> 'GramLoss':
        """Set the mode; the earlier network stays in that of evaluation."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, tokens: Tensor, global_crops: Tensor) -> Tensor:
        """Compute the weighted loss.

        Args:
            tokens: Student's tokens of the global crops, shape (G, B, 1 + N, D), [CLS] first.
            global_crops: Shape (G * B, 3, H, W), view by view.
        """
        with torch.no_grad():
            anchor: Any = self.backbone(global_crops)[-1][:, 1:]
        with torch.autocast(tokens.device.type, enabled=False):
            student = tokens.flatten(0, 1)[:, 1:]
            return self.weight * gram_loss(student, anchor, self.within_image, self.negatives)
