# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A frozen backbone that gives one feature of each image."""

from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from ibot_mm.functional.pooling import check_pooling, pool_tokens
from ibot_mm.registry import MODELS


@MODELS.register_module()
class FrozenFeatures(BaseModule):
    """Stands in the place of a backbone and gives the features of a frozen one.

    The backbone stays in evaluation mode, without gradient, in every training. Its weights come by
    its own ``init_cfg``.

    Args:
        backbone (dict | nn.Module): With ``last_blocks``, as all backbones of this project.
        num_blocks (int): Last blocks whose [CLS] is read; published are
            4 for ViT-S and Swin, 1 for ViT-B and ViT-L. Defaults to 1.
        pooling (str): See :func:`~ibot_mm.functional.pooling.pool_tokens`. Defaults to 'cls'.
        final_norm (bool): Whether each block's tokens go through the final norm.
            Defaults to True.
        init_cfg (dict | list, optional): Defaults to None.

    Raises:
        ValueError: If the backbone does not give the tokens of its last blocks, or an option is out
            of range.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        num_blocks: int = 1,
        pooling: str = 'cls',
        final_norm: bool = True,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_pooling(pooling)
        self.backbone: Any = MODELS.build(backbone) if isinstance(backbone, dict) else backbone
        if not hasattr(self.backbone, 'last_blocks'):
            raise ValueError(
                f'{type(self.backbone).__name__} does not have last_blocks(images, num_blocks): '
                'use a backbone of ibot_mm, such as ibot_mm.MaskedVisionTransformer, '
                'ibot_mm.MaskedSwinTransformer or ibot_mm.TimmVisionTransformer.'
            )
        self.num_blocks = num_blocks
        self.pooling = pooling
        self.final_norm = final_norm
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> 'FrozenFeatures':
        """Leave the backbone in evaluation mode, and return the module."""
        super().train(mode)
        self.backbone.eval()
        return self

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Compute the features (B, C) of images (B, 3, H, W), alone in a tuple."""
        tokens = self.backbone.last_blocks(images, self.num_blocks, self.final_norm)
        return (pool_tokens(tokens, self.pooling),)
