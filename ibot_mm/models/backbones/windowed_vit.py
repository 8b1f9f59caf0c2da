# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Vision Transformer with attention in windows, the backbone of ViTDet."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from ibot_mm.registry import MODELS

from .attention import attend_in_windows
from .layer_numbers import resolve_indices
from .settled import drop_settled
from .vit import MaskedVisionTransformer


@MODELS.register_module()
class WindowedVisionTransformer(MaskedVisionTransformer):
    """ViT whose patches see only their window, but for a few layers.

    As in ViTDet (arXiv 2203.16527, section 3) there is neither [CLS] nor a final norm, and the
    last map goes to :class:`SimplePyramid`. Parameter names are those of
    :class:`MaskedVisionTransformer`, so the same checkpoints serve; [CLS], mask token and
    registers of a checkpoint are not used.

    Args:
        arch (str | dict): As in the base class. Defaults to 'base'.
        window_size (int): Side of a window in patches. Zeros fill incomplete windows; a map
            smaller than a window is one window. Defaults to 14.
        global_indices (Sequence[int], optional): Layers with attention over the whole map.
            Defaults to None, the last layer of each quarter of the network. Empty for none.
        out_indices (Sequence[int] | int): Layers whose maps are returned. Defaults to -1.
        final_norm (bool): Whether the last layer's map is normalized. Defaults to False.
        patch_cfg (dict): Of the patch embedding. Defaults to an empty dict: images are padded to
            a multiple of the patch.
        **kwargs: As :class:`MaskedVisionTransformer`, but for ``mask_token``, ``num_registers``,
            ``with_cls_token`` and ``out_type``.

    Attributes:
        out_channels (list[int]): Channels of the maps, ``in_channels`` of a neck.

    Raises:
        ValueError: If ``window_size`` is not positive, ``global_indices`` do not fit the number of
            layers, or a token besides the patches is asked for.
    """

    packs_sizes = False  # windows are of one grid

    def __init__(
        self,
        arch: str | dict = 'base',
        window_size: int = 14,
        global_indices: Sequence[int] | None = None,
        out_indices: Sequence[int] | int = -1,
        final_norm: bool = False,
        patch_cfg: dict = dict(),
        **kwargs: Any,
    ) -> None:
        for key in ('mask_token', 'num_registers', 'with_cls_token'):
            if kwargs.pop(key, False):
                raise ValueError(
                    f'WindowedVisionTransformer has tokens of patches only: leave {key} out. A '
                    "checkpoint's other tokens are not needed."
                )
        drop_settled(type(self).__name__, kwargs, out_type='featmap')
        super().__init__(
            arch=arch,
            mask_token=False,
            with_cls_token=False,
            out_type='featmap',
            out_indices=out_indices,
            final_norm=final_norm,
            patch_cfg=patch_cfg,
            **kwargs,
        )
        if window_size < 1:
            raise ValueError(f'window_size must be at least 1 patch, got {window_size}.')
        if global_indices is None:
            ends = {quarter * self.num_layers // 4 for quarter in (1, 2, 3, 4)} - {0}
            global_indices = [end - 1 for end in sorted(ends)]
        self.window_size = window_size
        self.global_indices = list(global_indices)
        if self.global_indices:
            self.global_indices = resolve_indices(
                'global_indices', self.global_indices, self.num_layers
            )
        self.out_channels = [self.embed_dims] * len(self.out_indices)

    def _forward_layer(
        self, index: int, tokens: Tensor, grid: tuple[int, int], angles: Tensor | None
    ) -> Tensor:
        if index in self.global_indices:
            return super()._forward_layer(index, tokens, grid, angles)
        in_windows = partial(attend_in_windows, angles=angles, grid=grid, window=self.window_size)
        return self.layers[index](tokens, in_windows)
