# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The first layers of a projection head, as part of a classifier."""

from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ibot_mm.registry import MODELS


@MODELS.register_module()
class ProjectionLayers(BaseModule):
    """Keeps the first layers of a pre-trained projection head below a classifier.

    A neck for fine-tuning with few labels (paper, section 4.1; SimCLRv2, arXiv 2006.10029). Weights
    come by ``init_cfg=dict(type='ibot_mm.PretrainedHead', checkpoint=...)`` from a full checkpoint.

    Args:
        neck (dict | nn.Module): The :class:`ibot_mm.IBOTNeck` of the pre-training.
        num_layers (int): Linear layers that are kept, each with the norm and activation after it.
            With all of them the features are the scores of the prototypes. Defaults to 1.
        init_cfg (dict | list, optional): Defaults to None.

    Attributes:
        out_channels (int): Channels of the features, ``in_channels`` of a head.

    Raises:
        ValueError: If the neck does not have so many layers.
    """

    def __init__(
        self, neck: dict | nn.Module, num_layers: int = 1, init_cfg: dict | list | None = None
    ) -> None:
        super().__init__(init_cfg)
        built: Any = MODELS.build(neck) if isinstance(neck, dict) else neck
        total = len(built.layers)
        if not 1 <= num_layers <= total:
            raise ValueError(
                f'num_layers of ProjectionLayers must be between 1 and {total}, the layers of the '
                f'projection head, got {num_layers}.'
            )
        built.layers = built.layers[:num_layers]
        built.patch_prototypes = built.patch_layers = built.patch_norm = None
        self.with_prototypes = num_layers == total
        self.out_channels: int = built.num_prototypes
        if not self.with_prototypes:
            built.cls_prototypes = None
            self.out_channels = built.layers[-1].out_features
        self.neck = built

    def forward(self, feats: Any) -> tuple[Tensor]:
        """Compute the features (B, C) of [CLS] tokens (B, D), alone in a tuple.

        Args:
            feats: [CLS] tokens, or a tuple whose last they are.
        """
        x = feats[-1] if isinstance(feats, (tuple, list)) else feats
        neck: Any = self.neck
        for index, layer in enumerate(neck.layers):
            x = layer(x)
            if index < neck.num_hidden_layers:
                x = neck.act(x if neck.norm is None else neck.norm(x))
        if self.with_prototypes:
            x = neck.cls_prototypes(F.normalize(x, dim=-1) if neck.normalize else x)
        return (x,)
