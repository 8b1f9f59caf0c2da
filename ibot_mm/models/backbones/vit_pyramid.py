# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Vision Transformer as a backbone of detectors and segmentors."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ibot_mm.registry import MODELS

from ..pyramid import DeconvPyramid
from .arch import resolve_arch
from .settled import drop_settled
from .vit import MaskedVisionTransformer


@MODELS.register_module()
class ViTPyramid(MaskedVisionTransformer):
    """Feature maps of several layers at several strides, as published for iBOT.

    Takes images of any size; they are padded to a multiple of the patch. Parameter names are
    those of :class:`MaskedVisionTransformer`, with ``pyramid.*`` added.

    Args:
        arch (str | dict): As in the base class. Defaults to 'base'.
        out_indices (Sequence[int] | int, optional): The layers. Defaults to None, for four maps
            those at a third, a half, two thirds and the end of the network: as published
            ``[3, 5, 7, 11]`` of 12 and ``[7, 11, 15, 23]`` of 24; for fewer maps the last of
            these. Networks of four layers give all.
        final_norm (bool): Whether the final norm is applied to each map: published segmentation
            does, published detection has no final norm. Defaults to False.
        with_pyramid (bool): Whether to change resolutions by :class:`DeconvPyramid`; else maps
            have the stride of the patch, of any number, as for a linear probe. Defaults to True.
        out_strides (Sequence[float], optional): Strides of the maps, one for each of
            ``out_indices``, such as ``[8, 16, 32]``; see :class:`DeconvPyramid`. Defaults to None,
            4, 8, 16 and 32 for patches of 8 or 16 and 3.5, 7, 14 and 28 for patches of 14.
        output_cls_token (bool): Whether to give a pair of map and [CLS] (B, D) for each layer, as
            mmseg's DPT needs it. Defaults to False.
        pyramid_norm_cfg (dict): Norm within the pyramid. Defaults to
            ``dict(type='ibot_mm.SyncBN')``.
        norm_eval (bool): Whether the batch norms of the pyramid stay in evaluation mode.
            Defaults to False.
        patch_size (int): Defaults to 16.
        patch_cfg (dict): Of the patch embedding. Defaults to an empty dict.
        **kwargs: As :class:`MaskedVisionTransformer`, ``mask_token`` being False and
            ``out_type`` 'featmap'.

    Attributes:
        out_channels (list[int]): Channels of the maps, ``in_channels`` of a neck or head.

    Raises:
        ValueError: If a pyramid cannot be made of this patch size or number of layers, or options
            exclude each other.
    """

    packs_sizes = False  # the pyramid is of one grid

    def __init__(
        self,
        arch: str | dict = 'base',
        out_indices: Sequence[int] | int | None = None,
        final_norm: bool = False,
        with_pyramid: bool = True,
        out_strides: Sequence[float] | None = None,
        output_cls_token: bool = False,
        pyramid_norm_cfg: dict = dict(type='ibot_mm.SyncBN'),
        norm_eval: bool = False,
        patch_size: int = 16,
        patch_cfg: dict = dict(),
        **kwargs: Any,
    ) -> None:
        if not with_pyramid and out_strides is not None:
            raise ValueError(
                f'out_strides={list(out_strides)} needs the pyramid: leave out with_pyramid=False.'
            )
        if output_cls_token and (with_pyramid or not kwargs.get('with_cls_token', True)):
            raise ValueError(
                'output_cls_token=True gives [CLS] beside maps of the stride of the patch: set '
                'with_pyramid=False, and leave with_cls_token as it is.'
            )
        drop_settled(type(self).__name__, kwargs, mask_token=False, out_type='featmap')
        if out_indices is None:
            number = 4 if out_strides is None else len(out_strides)
            settings = resolve_arch(arch, self.arch_zoo, type(self).__name__)
            out_indices = _default_layers(settings['num_layers'], number)
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
        self.output_cls_token = output_cls_token
        self.norm_eval = norm_eval
        self.out_channels = [self.embed_dims] * len(self.out_indices)
        self.pyramid = None
        if with_pyramid:
            self.pyramid = DeconvPyramid(
                self.out_channels, patch_size, out_strides, pyramid_norm_cfg
            )

    def train(self, mode: bool = True) -> 'ViTPyramid':
        """Set the mode, but of what is frozen, and return the module."""
        super().train(mode)
        if self.norm_eval and self.pyramid is not None:
            for module in self.pyramid.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _normalize(self, index: int, tokens: Tensor) -> Tensor:
        return self.ln1(tokens) if self.final_norm else tokens

    def _output(self, index: int, tokens: Tensor, grid: tuple[int, int]) -> Any:
        features = super()._output(index, tokens, grid)  # (B, D, H/p, W/p)
        if not self.output_cls_token:
            return features
        return features, self._normalize(index, tokens[:, 0])

    def forward(self, images: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        """Return the feature maps of images.

        Args:
            images: Shape (B, C, H, W).

        Returns:
            One map for each of ``out_indices``, (B, D, H / stride, W / stride), or a pair of it
            and [CLS] (B, D).

        Raises:
            ValueError: If images are smaller than the coarsest stride.
        """
        maps = super().forward(images)
        return maps if self.pyramid is None else self.pyramid(maps)


def _default_layers(num_layers: int, number: int) -> list[int]:
    """As published, a third, a half, two thirds and the end; the last ones of a short network."""
    if num_layers < number:
        raise ValueError(
            f'ViTPyramid takes its {number} maps from {number} layers, and the network has '
            f'{num_layers}: give out_strides of fewer maps, such as out_strides=[16].'
        )
    layers = [sixths * num_layers // 6 - 1 for sixths in (2, 3, 4, 6)][-number:]
    is_short = layers[0] < 0 or len(set(layers)) < len(layers)
    return list(range(num_layers - number, num_layers)) if is_short else layers
