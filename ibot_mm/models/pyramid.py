# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Necks that make feature maps of several strides from those of a Vision Transformer.

Maps of a ViT are often views of its tokens, channels last. Convolutions keep that order, on which
mmcv's RoIAlign gives wrong values on the CPU without a word; so the necks give contiguous maps.
"""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmpretrain.models.utils import LayerNorm2d
from torch import Tensor, nn

from ibot_mm.registry import MODELS


@MODELS.register_module()
class DeconvPyramid(BaseModule):
    """Four maps of one stride become maps of strides 4, 8, 16 and 32, as published for iBOT.

    From stride 16: deconvolution - norm - GELU - deconvolution, deconvolution, identity and
    maximum pooling. From stride 8: deconvolution, identity and two poolings. Any backbone with
    four feature maps of one stride will do, and FPN can follow.

    Args:
        in_channels (int | Sequence[int]): Channels of the four maps, or of each; they stay the
            same.
        stride (int): Stride of the four maps, 8 or 16 (the patch size of a ViT). Defaults to 16.
        norm_cfg (dict): Norm between two deconvolutions. Defaults to
            ``dict(type='ibot_mm.SyncBN')``.
        init_cfg (dict | list, optional): As in every mm module. Defaults to None.

    Attributes:
        out_channels (list[int]): Channels of the four outputs.

    Raises:
        ValueError: If the stride is another, or ``in_channels`` is not one or four numbers.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        stride: int = 16,
        norm_cfg: dict = dict(type='ibot_mm.SyncBN'),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        channels = [in_channels] * 4 if isinstance(in_channels, int) else list(in_channels)
        if len(channels) != 4:
            raise ValueError(
                f'DeconvPyramid needs four maps, got in_channels={in_channels}: give one number or '
                'four, and out_indices of the backbone for four maps.'
            )
        if stride == 16:
            first, second, _, _ = channels
            levels = [
                nn.Sequential(
                    _upsample(first, first),
                    build_norm_layer(norm_cfg, first)[1],
                    nn.GELU(),
                    _upsample(first, first),
                ),
                _upsample(second, second),
                nn.Identity(),
                nn.MaxPool2d(2),
            ]
        elif stride == 8:
            first = channels[0]
            levels = [_upsample(first, first), nn.Identity(), nn.MaxPool2d(2), nn.MaxPool2d(4)]
        else:
            raise ValueError(
                f'DeconvPyramid makes strides 4 to 32 from maps of stride 8 or 16, got {stride}: '
                'use a patch size of 8 or 16.'
            )
        self.levels = nn.ModuleList(levels)
        self.stride = stride
        self.in_channels = self.out_channels = channels

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Change the resolution of each map.

        Args:
            maps: Four of shape (B, C, H, W).

        Returns:
            Maps of 4, 2, 1 and 1/2 times H and W (from stride 8: 2, 1, 1/2 and 1/4 times).

        Raises:
            ValueError: If the number of maps or their channels are not those of ``in_channels``,
                or images are smaller than 32 x 32 pixels.
        """
        _check_maps(self, maps, self.in_channels, 32 // self.stride)
        return tuple(level(features.contiguous()) for level, features in zip(self.levels, maps))


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """The simple feature pyramid of ViTDet: all levels from the last map, of stride 16.

    Strides 4, 8, 16 and 32 by two deconvolutions, one, none and maximum pooling; then 1x1 and 3x3
    convolutions with layer norm over channels; stride 64, where asked for, by subsampling. It
    takes the place of FPN. Paper: Exploring Plain Vision Transformer Backbones for Object
    Detection (arXiv 2203.16527), section 3.

    Args:
        in_channels (int): Channels of the last map.
        out_channels (int): Channels of each level. Defaults to 256.
        num_outs (int): Number of levels, 4 or 5. Defaults to 5.
        init_cfg (dict | list, optional): As in every mm module. Defaults to None.

    Attributes:
        out_channels (list[int]): Channels of each output.

    Raises:
        ValueError: If ``num_outs`` is another or ``in_channels`` is not a multiple of 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_outs not in (4, 5):
            raise ValueError(f'SimplePyramid has 4 or 5 levels, got num_outs={num_outs}.')
        if in_channels % 4:
            raise ValueError(f'in_channels must be a multiple of 4, got {in_channels}.')
        half, quarter = in_channels // 2, in_channels // 4
        to_stride_4 = [
            _upsample(in_channels, half),
            LayerNorm2d(half, eps=1e-6),
            nn.GELU(),
            _upsample(half, quarter),
        ]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(*to_stride_4, *_project(quarter, out_channels)),
                nn.Sequential(_upsample(in_channels, half), *_project(half, out_channels)),
                nn.Sequential(*_project(in_channels, out_channels)),
                nn.Sequential(nn.MaxPool2d(2), *_project(in_channels, out_channels)),
            ]
        )
        self.in_channels = in_channels
        self.out_channels = [out_channels] * num_outs

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make all levels from the last map.

        Args:
            maps: The last one of shape (B, C, H, W); others are not used.

        Returns:
            Maps of 4, 2, 1, 1/2 and, for five levels, 1/4 times H and W.

        Raises:
            ValueError: If the channels of the last map are not ``in_channels``, or images are
                smaller than 32 x 32 pixels.
        """
        last = maps[-1]
        _check_maps(self, [last], [self.in_channels], 2)
        outputs = [level(last) for level in self.levels]
        if len(self.out_channels) == 5:
            outputs.append(outputs[-1][:, :, ::2, ::2])  # detection's usual pooling of 1 x 1
        return tuple(output.contiguous() for output in outputs)


def _upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


def _project(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels, eps=1e-6),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels, eps=1e-6),
    ]


def _check_maps(neck: nn.Module, maps: Sequence[Tensor], channels: list[int], side: int) -> None:
    """Refuse other numbers of maps or channels, and sides too small for the coarsest level."""
    given = [features.shape[1] for features in maps]
    if given != channels:
        raise ValueError(
            f'{type(neck).__name__} was built for maps of {channels} channels and got {given}: '
            'set its in_channels, or out_indices of the backbone, accordingly.'
        )
    if min(maps[-1].shape[-2:]) < side:
        raise ValueError(
            f'{type(neck).__name__} got a map of {tuple(maps[-1].shape[-2:])}, too small for '
            'stride 32: give images of at least 32 x 32 pixels.'
        )
