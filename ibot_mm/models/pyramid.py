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

FACTORS = (4, 2, 1, 1 / 2, 1 / 4)  # of height and width that a level can have


@MODELS.register_module()
class DeconvPyramid(BaseModule):
    """Maps of one stride become maps of several, as published for iBOT.

    A level has 4 times the height and width of its map by deconvolution - norm - GELU -
    deconvolution, 2 times by one deconvolution, the same by nothing, 1/2 or 1/4 by maximum pooling.
    Any backbone with feature maps of one stride will do, and FPN can follow.

    Args:
        in_channels (int | Sequence[int]): Channels of all maps, or of each; they stay the same.
        stride (int): Stride of the maps, the patch size of a ViT. Defaults to 16.
        out_strides (Sequence[float], optional): Strides of the levels, one for each map, such as
            ``[8, 16, 32]``: the stride divided by 4, 2, 1, 1/2 or 1/4. Defaults to None, four
            levels: 4, 8, 16 and 32 from a stride of 8 or 16, 3.5, 7, 14 and 28 from one of 14.
        norm_cfg (dict): Norm between two deconvolutions. Defaults to
            ``dict(type='ibot_mm.SyncBN')``.
        init_cfg (dict | list, optional): As in every mm module. Defaults to None.

    Attributes:
        out_channels (list[int]): Channels of the outputs.
        out_strides (list[float]): Strides of the outputs.

    Raises:
        ValueError: If ``out_strides`` cannot be made of the stride, or ``in_channels`` is neither
            one number nor as many as there are levels.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        stride: int = 16,
        out_strides: Sequence[float] | None = None,
        norm_cfg: dict = dict(type='ibot_mm.SyncBN'),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if out_strides is None:
            finest = stride / 4 if stride > 8 else stride / 2
            out_strides = [finest * times for times in (1, 2, 4, 8)]
        factors = _factors(type(self).__name__, stride, out_strides)
        number = len(factors)
        channels = [in_channels] * number if isinstance(in_channels, int) else list(in_channels)
        if len(channels) != number:
            raise ValueError(
                f'DeconvPyramid needs {number} maps for out_strides={_text(out_strides)}, got '
                f'in_channels={in_channels}: give one number or {number}, and out_indices of the '
                f'backbone for {number} maps.'
            )
        self.levels = nn.ModuleList(
            _resize(factor, width, norm_cfg) for factor, width in zip(factors, channels)
        )
        self.stride = stride
        self.out_strides = list(out_strides)
        self.in_channels = self.out_channels = channels

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Change the resolution of each map.

        Args:
            maps: One for each level, of shape (B, C, H, W).

        Returns:
            A map for each of ``out_strides``, (B, C, H * stride / out_stride, ...).

        Raises:
            ValueError: If the number of maps or their channels are not those of ``in_channels``,
                or images are smaller than the coarsest stride.
        """
        _check_maps(self, maps, self.in_channels)
        return tuple(level(features.contiguous()) for level, features in zip(self.levels, maps))


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """The simple feature pyramid of ViTDet: all levels from the last map.

    Each level changes the map's height and width, 4 times by two deconvolutions with a layer norm
    over channels and GELU between them, 2 times by one, 1/2 or 1/4 by maximum pooling; then come
    1x1 and 3x3 convolutions, each with layer norm. One further level, where asked for, is a
    subsampled last one. It takes the place of FPN. Paper: Exploring Plain Vision Transformer
    Backbones for Object Detection (arXiv 2203.16527), section 3.

    Args:
        in_channels (int): Channels of the last map.
        out_channels (int): Channels of each level. Defaults to 256.
        num_outs (int): Number of outputs, that of the levels or one more. Defaults to 5.
        stride (int): Stride of the map, the patch size of a ViT. Defaults to 16.
        out_strides (Sequence[float], optional): Strides of the levels, such as ``[8, 16, 32]``: the
            stride divided by 4, 2, 1, 1/2 or 1/4. Defaults to None, as published the first four,
            from stride 16 those of 4, 8, 16 and 32.
        init_cfg (dict | list, optional): As in every mm module. Defaults to None.

    Attributes:
        out_channels (list[int]): Channels of each output.
        out_strides (list[float]): Strides of the outputs.

    Raises:
        ValueError: If ``num_outs`` is another, ``out_strides`` cannot be made of the stride, or
            ``in_channels`` is not a multiple of 4.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        num_outs: int = 5,
        stride: int = 16,
        out_strides: Sequence[float] | None = None,
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if out_strides is None:
            out_strides = [stride / factor for factor in FACTORS[:4]]
        factors = _factors(type(self).__name__, stride, out_strides)
        number = len(factors)
        if num_outs not in (number, number + 1):
            raise ValueError(
                f'SimplePyramid has {number} or {number + 1} levels with '
                f'out_strides={_text(out_strides)}, got num_outs={num_outs}.'
            )
        if in_channels % 4:
            raise ValueError(f'in_channels must be a multiple of 4, got {in_channels}.')
        self.levels = nn.ModuleList(
            nn.Sequential(*_simple_level(factor, in_channels, out_channels)) for factor in factors
        )
        self.stride = stride
        self.in_channels = in_channels
        self.out_channels = [out_channels] * num_outs
        self.out_strides = list(out_strides)
        if num_outs > number:
            self.out_strides.append(2 * self.out_strides[-1])

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make all levels from the last map.

        Args:
            maps: The last one of shape (B, C, H, W); others are not used.

        Returns:
            A map for each of ``out_strides``, (B, out_channels, H * stride / out_stride, ...).

        Raises:
            ValueError: If the channels of the last map are not ``in_channels``, or images are
                smaller than the coarsest level's stride.
        """
        last = maps[-1]
        _check_maps(self, [last], [self.in_channels])
        outputs = [level(last) for level in self.levels]
        if len(self.out_channels) > len(outputs):
            outputs.append(outputs[-1][:, :, ::2, ::2])  # detection's usual pooling of 1 x 1
        return tuple(output.contiguous() for output in outputs)


def _factors(neck: str, stride: int, out_strides: Sequence[float]) -> list[float]:
    """Factors of height and width that make ``out_strides`` of the stride."""
    factors = [stride / out_stride for out_stride in out_strides]
    increasing = factors == sorted(set(factors), reverse=True)
    if not factors or not increasing or not set(factors) <= set(FACTORS):
        possible = _text([stride / factor for factor in FACTORS])
        raise ValueError(
            f'{neck} cannot make out_strides={_text(out_strides)} of maps of stride {stride}: '
            f'choose among {possible}, in increasing order.'
        )
    return factors


def _text(strides: Sequence[float]) -> str:
    return f'[{", ".join(f"{stride:g}" for stride in strides)}]'


def _resize(factor: float, channels: int, norm_cfg: dict) -> nn.Module:
    """Build a level of :class:`DeconvPyramid`."""
    if factor == 4:
        norm = build_norm_layer(norm_cfg, channels)[1]
        return nn.Sequential(
            _upsample(channels, channels), norm, nn.GELU(), _upsample(channels, channels)
        )
    if factor == 2:
        return _upsample(channels, channels)
    return nn.Identity() if factor == 1 else nn.MaxPool2d(round(1 / factor))


def _simple_level(factor: float, channels: int, out_channels: int) -> list[nn.Module]:
    """Build a level of :class:`SimplePyramid`."""
    half, quarter = channels // 2, channels // 4
    if factor == 4:
        norm = LayerNorm2d(half, eps=1e-6)
        resize = [_upsample(channels, half), norm, nn.GELU(), _upsample(half, quarter)]
        return [*resize, *_project(quarter, out_channels)]
    if factor == 2:
        return [_upsample(channels, half), *_project(half, out_channels)]
    pooling = [nn.MaxPool2d(round(1 / factor))] if factor < 1 else []
    return [*pooling, *_project(channels, out_channels)]


def _upsample(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)


def _project(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        LayerNorm2d(out_channels, eps=1e-6),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        LayerNorm2d(out_channels, eps=1e-6),
    ]


def _check_maps(
    neck: DeconvPyramid | SimplePyramid, maps: Sequence[Tensor], channels: list[int]
) -> None:
    """Refuse other numbers of maps or channels, and sides too small for the coarsest level."""
    given = [features.shape[1] for features in maps]
    if given != channels:
        raise ValueError(
            f'{type(neck).__name__} was built for maps of {channels} channels and got {given}: '
            'set its in_channels, or out_indices of the backbone, accordingly.'
        )
    coarsest = neck.out_strides[len(neck.levels) - 1]
    if min(maps[-1].shape[-2:]) < coarsest / neck.stride:
        raise ValueError(
            f'{type(neck).__name__} got a map of {tuple(maps[-1].shape[-2:])}, too small for '
            f'stride {coarsest:g}: give images of at least {coarsest:g} x {coarsest:g} pixels.'
        )
