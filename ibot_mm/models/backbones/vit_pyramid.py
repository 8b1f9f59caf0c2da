# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Vision Transformer as a backbone of detectors and segmentors."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ibot_mm.registry import MODELS

from ..pyramid import DeconvPyramid
from .vit import MaskedVisionTransformer


@MODELS.register_module()
class ViTPyramid(MaskedVisionTransformer):
    """Feature maps of four layers at strides 4, 8, 16 and 32, as published for iBOT.

    Takes images of any size; they are padded to a multiple of the patch. Parameter names are
    those of :class:`MaskedVisionTransformer`, with ``pyramid.*`` added.

    Args:
        arch (str | dict): As in the base class. Defaults to 'base'.
        out_indices (Sequence[int], optional): The layers. Defaults to None, those at a third, a
            half, two thirds and the end of the network: as published ``[3, 5, 7, 11]`` of 12 and
            ``[7, 11, 15, 23]`` of 24.
        final_norm (bool): Whether the final norm is applied to each map: published segmentation
            does, published detection has no final norm. Defaults to False.
        with_pyramid (bool): Whether to change resolutions by :class:`DeconvPyramid`; else maps
            have the stride of the patch, of any number, as for a linear probe. Defaults to True.
        pyramid_norm_cfg (dict): Norm within the pyramid. Defaults to
            ``dict(type='ibot_mm.SyncBN')``.
        patch_size (int): 8 or 16; any without pyramid. Defaults to 16.
        patch_cfg (dict): Of the patch embedding. Defaults to an empty dict.
        **kwargs: As :class:`MaskedVisionTransformer`, but for ``mask_token`` and ``out_type``.

    Attributes:
        out_channels (list[int]): Channels of the maps, ``in_channels`` of a neck or head.

    Raises:
        ValueError: If a pyramid cannot be made of this patch size or number of layers.
    """

    def __init__(
        self,
        arch: str | dict = 'base',
        out_indices: Sequence[int] | None = None,
        final_norm: bool = False,
        with_pyramid: bool = True,
        pyramid_norm_cfg: dict = dict(type='ibot_mm.SyncBN'),
        patch_size: int = 16,
        patch_cfg: dict = dict(),
        **kwargs: Any,
    ) -> None:
        if out_indices is None:
            num_layers = self._check_arch(arch)['num_layers']
            out_indices = [sixths * num_layers // 6 - 1 for sixths in (2, 3, 4, 6)]
        super().__init__(
            arch=arch,
            mask_token=False,
            out_type='featmap',
            out_indices=out_indices,
            final_norm=final_norm,
            patch_size=patch_size,
            patch_cfg=patch_cfg,
            **kwargs,
        )
        self.out_channels = [self.embed_dims] * len(self.out_indices)
        self.pyramid = None
        if with_pyramid:
            self.pyramid = DeconvPyramid(self.out_channels, patch_size, pyramid_norm_cfg)

    def _normalize(self, index: int, tokens: Tensor) -> Tensor:
        return self.ln1(tokens) if self.final_norm else tokens

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Feature maps of images (B, 3, H, W), each of shape (B, D, H / stride, W / stride)."""
        maps = super().forward(images)
        return maps if self.pyramid is None else self.pyramid(maps)
