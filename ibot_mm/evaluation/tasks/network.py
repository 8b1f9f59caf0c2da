# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a task reads of a network."""

import math
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from ..classifier import Classifier
from ..features import FeatureExtractor, FeatureSettings
from ..views import prepare


class TaskNetwork(Protocol):
    """A frozen network in evaluation mode; :class:`ibot_mm.frozen_network.FrozenNetwork` is one."""

    @property
    def backbone(self) -> Any:
        """With ``last_blocks``."""

    @property
    def name(self) -> str:
        """Of the architecture, such as 'vit_small_patch16'."""

    @property
    def neck(self) -> Any:
        """The projection head, or None."""

    @property
    def prepare(self) -> Callable[[Tensor], Tensor] | None:
        """Makes uint8 BGR images (B, 3, H, W) the network's input; None: ImageNet's statistics."""

    @property
    def classifier(self) -> Classifier | None:
        """What tasks of robustness classify by, or None."""

    @property
    def salience(self) -> 'TaskNetwork | None':
        """Network whose attention says what is salient; None: this one."""

    def cls_attention(
        self, images: Tensor, forward: Callable[[Tensor], Any] | None = None
    ) -> Tensor:
        """Attention (B, heads, h, w) of [CLS] to the patches in the last block of a ViT."""


def preparation(network: TaskNetwork) -> Callable[[Tensor], Tensor]:
    """Return what makes uint8 BGR images (B, 3, H, W) the network's input."""
    return network.prepare or prepare


def token_maps(network: TaskNetwork) -> Callable[[Tensor], Tensor]:
    """Return what makes prepared images (B, 3, H, W) maps (B, h, w, D) of normed patch tokens."""
    extractor = FeatureExtractor(network.backbone, FeatureSettings())

    def compute(images: Tensor) -> Tensor:
        patches = extractor.tokens(images)[-1][:, 1:]
        return patches.unflatten(1, grid_of(patches.shape[1], *images.shape[-2:]))

    return compute


def stride_of(backbone: Any) -> int:
    """Return the side of what a token of the last block stands for, in pixels."""
    embedding = backbone.patch_embed
    projection = getattr(embedding, 'projection', None)
    sides = projection.kernel_size if projection is not None else embedding.patch_size
    merged = 2 ** (len(backbone.stages) - 1) if hasattr(backbone, 'stages') else 1
    return int(sides[0]) * merged


def grid_of(num_patches: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of the patches of an image.

    Args:
        num_patches: Of the image.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Raises:
        ValueError: If there is no patch size that gives so many patches.
    """
    patch_size = round(math.sqrt(height * width / num_patches))
    grid = height // patch_size, width // patch_size
    if grid[0] * grid[1] != num_patches:
        raise ValueError(
            f'{num_patches} tokens are not a grid of square patches of an image of {height} x '
            f'{width}: use sides that are multiples of the patch size'
        )
    return grid
