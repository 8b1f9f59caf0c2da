# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Frozen features of images: which tokens of a network, pooled how."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibot_mm.functional.pooling import check_pooling, pool_tokens


@dataclass(frozen=True)
class FeatureSettings:
    """Which tokens make the feature of an image.

    Args:
        num_blocks: Last blocks whose [CLS] is read. Defaults to 1.
        pooling: See :func:`~ibot_mm.functional.pooling.pool_tokens`. Defaults to 'cls'.
        final_norm: Whether tokens go through the network's final norm. Without it and with
            ``pooling='patch_mean'`` features are as the published scripts make them for
            ``avgpool_patchtokens=1``. Defaults to True.

    Raises:
        ValueError: If a value is out of range.
    """

    num_blocks: int = 1
    pooling: str = 'cls'
    final_norm: bool = True

    def __post_init__(self) -> None:
        check_pooling(self.pooling)
        if self.num_blocks < 1:
            raise ValueError(f'num_blocks must be at least 1, got {self.num_blocks}')

    def as_dict(self) -> dict[str, Any]:
        """Return the settings, as they stand in keys and results."""
        return asdict(self)


NEIGHBORS = FeatureSettings()  # k-NN, logistic regression, retrieval


def linear_settings(backbone: nn.Module) -> FeatureSettings:
    """Return the paper's choice for linear probing, by architecture.

    Four [CLS] for ViT-T, ViT-S and Swin; [CLS] and the mean of the patches for ViT-B and larger.

    Args:
        backbone: ViT or Swin.
    """
    large = not hasattr(backbone, 'stages') and backbone.embed_dims >= 768  # type: ignore[operator]
    if large:
        return FeatureSettings(1, 'cls_patch_mean')
    return FeatureSettings(min(4, num_blocks(backbone)), 'cls')


def num_blocks(backbone: Any) -> int:
    """Return the number of blocks of a ViT or, over its stages, of a Swin."""
    return sum(backbone.depths) if hasattr(backbone, 'stages') else backbone.num_layers


@dataclass(frozen=True)
class FeatureLayout:
    """Columns of stored features, of which protocols take those that they need.

    Args:
        widths: Channels of the stored blocks' [CLS], in network order.
        patch_width: Channels of the mean of the last block's patches behind them; 0 without.
    """

    widths: tuple[int, ...]
    patch_width: int = 0

    @property
    def width(self) -> int:
        """Number of all columns."""
        return sum(self.widths) + self.patch_width

    def columns(self, settings: FeatureSettings) -> slice:
        """Return the columns of a feature.

        Raises:
            ValueError: If it was not stored.
        """
        few = settings.num_blocks > len(self.widths) and settings.pooling != 'patch_mean'
        if few or (settings.pooling != 'cls' and not self.patch_width):
            raise ValueError(
                f'{settings} is not among the stored features: [CLS] of {len(self.widths)} blocks '
                f'and {"the" if self.patch_width else "no"} mean of patches'
            )
        end = sum(self.widths)
        start = sum(self.widths[: len(self.widths) - settings.num_blocks])
        return {
            'cls': slice(start, end),
            'patch_mean': slice(end, self.width),
            'cls_patch_mean': slice(start, self.width),
        }[settings.pooling]


def cover(*wanted: FeatureSettings) -> FeatureSettings:
    """Return the smallest feature that holds all of some, so that one pass serves all.

    Raises:
        ValueError: If they differ in the final norm.
    """
    if len({settings.final_norm for settings in wanted}) > 1:
        raise ValueError('features with and without final norm cannot be stored together')
    return FeatureSettings(
        max(settings.num_blocks for settings in wanted),
        'cls' if all(settings.pooling == 'cls' for settings in wanted) else 'cls_patch_mean',
        wanted[0].final_norm,
    )


class FeatureExtractor(nn.Module):
    """Makes the features of normalized images by a frozen backbone.

    Args:
        backbone: With ``last_blocks``: all backbones of this project have it.
        settings: Which tokens, pooled how. Defaults to [CLS] of the last block.

    Raises:
        ValueError: If the backbone does not give the tokens of its last blocks.
    """

    def __init__(self, backbone: nn.Module, settings: FeatureSettings = NEIGHBORS) -> None:
        super().__init__()
        if not hasattr(backbone, 'last_blocks'):
            raise ValueError(
                f'{type(backbone).__name__} does not have last_blocks(images, num_blocks): use a '
                'backbone of ibot_mm, such as ibot_mm.MaskedVisionTransformer, '
                'ibot_mm.MaskedSwinTransformer or ibot_mm.TimmVisionTransformer'
            )
        self.backbone: Any = backbone.eval().requires_grad_(False)
        self.settings = settings

    @torch.no_grad()
    def tokens(self, images: Tensor) -> list[Tensor]:
        """Return the last blocks' tokens (B, 1 + N, D) of images (B, 3, H, W), in network order."""
        return self.backbone.last_blocks(images, self.settings.num_blocks, self.settings.final_norm)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Compute the features (B, C) of images (B, 3, H, W)."""
        return pool_tokens(self.tokens(images), self.settings.pooling)

    def layout(self, images: Tensor) -> FeatureLayout:
        """Return the columns of the features, seen from some images (B, 3, H, W)."""
        widths = tuple(tokens.shape[-1] for tokens in self.tokens(images))
        if self.settings.pooling == 'patch_mean':
            return FeatureLayout((), widths[-1])
        return FeatureLayout(widths, 0 if self.settings.pooling == 'cls' else widths[-1])
