# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What gives the targets of masked patches in place of the online teacher.

A tokenizer sees the global crops whole and gives logits over its tokens, as the teacher does:
``tokenizer(images, patches) -> (logits of these patches, mean logits of all)``. The head does not
know where they come from. ``num_tokens`` is ``num_patch_prototypes`` of the student. No tokenizer
is ever trained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.token_selection import select_tokens
from ibot_mm.registry import MODELS


@MODELS.register_module()
class RandomTokenizer(BaseModule):
    """A network and a projection head as they start: fixed, and the same for every epoch.

    Args:
        backbone (dict): Of any kind that :class:`IBOT` takes.
        neck (dict): See :class:`IBOTNeck`.

    Attributes:
        num_tokens (int): Prototypes for patches of the neck.
    """

    def __init__(self, backbone: dict, neck: dict) -> None:
        super().__init__()
        self.backbone: Any = MODELS.build(backbone)
        self.neck: Any = MODELS.build(neck)
        self.num_tokens: int = self.neck.num_patch_prototypes
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> 'RandomTokenizer':
        """Stay in the mode of evaluation."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits.

        Args:
            images: Global crops, view by view, shape (G * B, 3, H, W).
            patches: Places of the wanted patches among the G * B * N, shape (M,).

        Returns:
            Logits of these patches (M, K'), and their mean over all patches (K').
        """
        tokens = self.backbone(images)[-1]
        projections = self.neck.project(tokens, 1)
        wanted = select_tokens(projections, patches)[len(images) :]
        _, logits, mean = self.neck.logits(wanted[:0], wanted, projections[:, 1:].mean(dim=(0, 1)))
        return logits, mean


@MODELS.register_module()
class FrozenTokenizer(RandomTokenizer):
    """A network that was trained before, with its projection head: images to logits (M, K').

    Args:
        backbone (dict): With ``init_cfg=dict(type='ibot_mm.Pretrained', checkpoint=...)``.
        neck (dict): With ``init_cfg=dict(type='ibot_mm.PretrainedHead', checkpoint=...)``. A
            network without a head serves through :class:`ClusterTokenizer`.

    Raises:
        ValueError: If one of the two names no checkpoint.
    """

    def __init__(self, backbone: dict, neck: dict) -> None:
        for name, part in dict(backbone=backbone, neck=neck).items():
            init_cfg = part.get('init_cfg')
            if not isinstance(init_cfg, Mapping) or not init_cfg.get('checkpoint'):
                kind = dict(backbone='Pretrained', neck='PretrainedHead')[name]
                raise ValueError(
                    f'FrozenTokenizer: {name}.init_cfg names no checkpoint: set '
                    f"dict(type='ibot_mm.{kind}', checkpoint=...). Random tokens come from "
                    'ibot_mm.RandomTokenizer.'
                )
        super().__init__(backbone, neck)


@MODELS.register_module()
class ClusterTokenizer(BaseModule):
    """Clusters of pixels, or of a frozen network's features: a codebook fitted once by k-means.

    A logit is minus the squared distance of a patch to a cluster, in units of the mean squared
    distance of a patch to its own. Centers of the head should be off: ``patch_centering='none'``.

    Args:
        num_tokens (int): Clusters K'.
        patch_size (int): Side of a patch in pixels.
        clusters (str): File of ``tools/fit_clusters.py``.
        backbone (dict, optional): The frozen network whose patch features are clustered.
            Defaults to None, normalized pixels.

    Raises:
        ValueError: If a number is out of range.
    """

    centers: Tensor
    scale: Tensor

    def __init__(
        self,
        num_tokens: int,
        patch_size: int,
        clusters: str,
        backbone: dict | None = None,
    ) -> None:
        super().__init__()
        counts = dict(num_tokens=num_tokens, patch_size=patch_size)
        check_ranges(type(self).__name__, {'int [1, inf)': counts})
        self.num_tokens, self.patch_size, self.clusters = num_tokens, patch_size, clusters
        self.backbone: Any = None if backbone is None else MODELS.build(backbone)
        channels = 3 * patch_size**2 if self.backbone is None else self.backbone.embed_dims
        self.register_buffer('centers', torch.zeros(num_tokens, channels))
        self.register_buffer('scale', torch.ones(()))
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> 'ClusterTokenizer':
        """Stay in the mode of evaluation."""
        return super().train(False)

    def init_weights(self) -> None:
        """Load the frozen network, then the clusters.

        Raises:
            FileNotFoundError: If the file is not there.
            ValueError: If it holds other clusters.
        """
        super().init_weights()
        if not Path(self.clusters).is_file():
            raise FileNotFoundError(
                f'ClusterTokenizer: there is no {self.clusters}. Fit the clusters first: python '
                f'tools/fit_clusters.py CONFIG --out {self.clusters}'
            )
        stored = torch.load(self.clusters, map_location='cpu', weights_only=True)
        for name in ('centers', 'scale'):
            own, found = getattr(self, name), stored.get(name)
            if not isinstance(found, Tensor) or found.shape != own.shape:
                shape = tuple(found.shape) if isinstance(found, Tensor) else 'nothing'
                raise ValueError(
                    f"{self.clusters}: '{name}' has shape {shape}, ClusterTokenizer needs "
                    f'{tuple(own.shape)}: set num_tokens, patch_size and backbone to those that '
                    'were fitted, or fit again.'
                )
            own.copy_(found)

    def features(self, images: Tensor) -> Tensor:
        """Compute what is clustered: (B, 3, H, W) -> (B, N, D)."""
        if self.backbone is not None:
            return self.backbone(images)[-1][:, 1:]
        side = self.patch_size
        return torch.nn.functional.unfold(images, side, stride=side).transpose(1, 2)

    @torch.no_grad()
    def forward(self, images: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the logits; see :meth:`RandomTokenizer.forward`."""
        features = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            logits = self._logits(features.flatten(0, 1)[patches].to(self.centers))
            # The mean of squared distances, from the mean and the mean square of the features.
            features = features.flatten(0, 1).to(self.centers)
            mean = self._logits(features.mean(dim=0, keepdim=True))[0]
            spread = features.var(dim=0, correction=0).sum() / self.scale
        return logits, mean - spread

    def _logits(self, features: Tensor) -> Tensor:
        return -torch.cdist(features, self.centers).square() / self.scale
