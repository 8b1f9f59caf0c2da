# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Swin Transformer with a mask token."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.model import initialize
from mmengine.model.weight_init import constant_init, trunc_normal_init
from mmengine.utils import to_2tuple
from mmpretrain.models import SwinTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import MODELS

from .layer_numbers import check_num_blocks
from .patch_embedding import embed_patches
from .settled import drop_settled

NORM = dict(type='LN', eps=1e-6)


@MODELS.register_module()
class MaskedSwinTransformer(SwinTransformer):
    """mmpretrain's Swin Transformer as iBOT trains it.

    What differs from the base class: patches are replaced by a learned token after the norm of
    the patch embedding, under masks of the last stage's grid; the output is tokens, the mean of
    all in the place of [CLS]; every norm has the published eps of 1e-6; images are cut to a
    multiple of the patch where mmpretrain pads; windows are settled by ``img_size``, so that local
    crops go through those of the global ones, padded where they are smaller.

    Names and layout of parameters are the base class's, which are also those of mmdet's and
    mmseg's Swin.

    Args:
        arch (str | dict): 'tiny', 'small', 'base' or 'large', or a dict with ``embed_dims``,
            ``depths`` and ``num_heads`` (one of each per stage). Defaults to 'tiny'.
        img_size (int | tuple): Global crops in pixels, (H, W). A stage whose feature map they make
            no larger than ``window_size`` has one window of that map's size and no shift, for
            images of every size. Defaults to 224.
        patch_size (int): Stride of the patch embedding. Each further stage doubles it, so that
            four stages end at 8 times this. Defaults to 4.
        window_size (int): Positions on the side of a window; published are 7 and 14.
            Defaults to 7.
        drop_path_rate (float): Of the last block; blocks before it have less. Defaults to 0.1,
            as published for Swin-T.
        mask_token (bool): Whether to learn a mask token; the teacher has none. Defaults to True.
        with_cp (bool): Recompute each block in the backward pass instead of keeping its
            activations. Defaults to False.
        norm_cfg (dict): Of every norm; Swin of other code than iBOT's has an eps of 1e-5.
            Defaults to ``dict(type='LN', eps=1e-6)``.
        **kwargs: ``in_channels``, ``drop_rate``, ``frozen_stages``, ``norm_eval`` and ``init_cfg``
            of :class:`mmpretrain.models.SwinTransformer`; the published network settles the rest.

    Raises:
        ValueError: If ``arch`` is unknown or incomplete, or ``img_size`` leaves nothing for the
            last stage,
            or a size or rate is out of range.
    """

    init_cfg: Any

    def __init__(
        self,
        arch: str | dict = 'tiny',
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 4,
        window_size: int = 7,
        drop_path_rate: float = 0.1,
        mask_token: bool = True,
        with_cp: bool = False,
        norm_cfg: dict = NORM,
        **kwargs: Any,
    ) -> None:
        self._check_arch(arch)
        check_ranges(
            type(self).__name__,
            {
                'int [1, inf)': dict(
                    img_size=img_size, patch_size=patch_size, window_size=window_size
                ),
                '[0, 1)': dict(drop_path_rate=drop_path_rate, drop_rate=kwargs.get('drop_rate')),
            },
        )
        depths = (self.arch_zoo[arch.lower()] if isinstance(arch, str) else arch)['depths']
        resolution = min(size // patch_size for size in to_2tuple(img_size))
        if resolution >> (len(depths) - 1) < 1:
            raise ValueError(
                f'img_size={img_size} leaves no position for the last of {len(depths)} stages: '
                f'it must be at least {patch_size << (len(depths) - 1)}.'
            )
        drop_settled(
            type(self).__name__,
            kwargs,
            out_indices=(len(depths) - 1,),
            use_abs_pos_embed=False,
            pad_small_map=True,
        )
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            drop_path_rate=drop_path_rate,
            out_indices=(len(depths) - 1,),
            use_abs_pos_embed=False,
            pad_small_map=True,
            norm_cfg=norm_cfg,
            patch_cfg=dict(padding=0, norm_cfg=norm_cfg),
            stage_cfgs=[_stage(resolution >> i, window_size, norm_cfg) for i in range(len(depths))],
            **kwargs,
        )
        self.stride = patch_size << (len(depths) - 1)
        self.with_cp = with_cp
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if mask_token else None

    @classmethod
    def _check_arch(cls, arch: str | dict) -> None:
        keys = {'embed_dims', 'depths', 'num_heads'}
        if isinstance(arch, str) and arch.lower() not in cls.arch_zoo:
            raise ValueError(
                f"Unknown arch '{arch}' of {cls.__name__}: choose from {sorted(cls.arch_zoo)}, or "
                f'give a dict with {sorted(keys)}.'
            )
        if isinstance(arch, dict) and (
            set(arch) != keys or len(arch['depths']) != len(arch['num_heads'])
        ):
            raise ValueError(
                f'The arch of {cls.__name__} must have exactly {sorted(keys)}, with as many '
                f'num_heads as depths: got {arch}.'
            )

    def init_weights(self) -> None:
        """Initialize as published; ``init_cfg`` has the last word."""
        init_cfg = self.init_cfg
        self.init_cfg = None  # else it would be applied here and again below
        super().init_weights()
        self.init_cfg = init_cfg
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module, std=0.02, bias=0)
            elif isinstance(module, nn.LayerNorm):
                constant_init(module, 1)
        if init_cfg is not None:
            initialize(self, init_cfg)

    def train(self, mode: bool = True) -> 'MaskedSwinTransformer':
        """Set the mode and return the module (the base class returns nothing)."""
        super().train(mode)
        return self

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile in place, for each image size by itself unless told otherwise.

        Windows are counted in numbers, and to compile for sizes in general takes many minutes.
        """
        super().compile(*args, **(dict(dynamic=False) | kwargs))

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor]:
        """Return the tokens of the last stage.

        Args:
            images: Shape (B, C, H, W).
            masks: True where the image is hidden from the network, shape (B, H/s, W/s), s being
                the stride of the last stage. Defaults to None, nothing hidden.

        Returns:
            One tensor in a tuple: the mean of the last stage's normalized tokens, then these,
            shape (B, 1 + H/s * W/s, D). Sizes are rounded up to a multiple of s.

        Raises:
            ValueError: If masks are given to a network without mask token, or do not fit the
                images.
        """
        tokens, grid = embed_patches(self.patch_embed, images)  # (B, N, C), (H/p, W/p)
        if masks is not None:
            tokens = self._mask(tokens, masks, grid)
        for output in self._run_blocks(self.drop_after_pos(tokens), grid):
            tokens = output
        return (_mean_first(self._final_norm(tokens)),)

    def last_blocks(
        self, images: Tensor, num_blocks: int = 1, final_norm: bool = True
    ) -> list[Tensor]:
        """Return the tokens of the last blocks, before a stage's down-sampling.

        As published, those of the last stage go through the final norm and those of earlier stages
        are taken as they are.

        Args:
            images: Shape (B, C, H, W).
            num_blocks: How many, counted from the end, over the stages. Defaults to 1.
            final_norm: Whether those of the last stage go through the final norm. Defaults to True.

        Returns:
            For each block, in network order, (B, 1 + N, D), with N and D of its stage: the mean of
            its tokens, then these.

        Raises:
            ValueError: If the network does not have so many blocks.
        """
        total = sum(self.depths)
        first = total - check_num_blocks(num_blocks, total)
        tokens, grid = embed_patches(self.patch_embed, images)
        outputs = []
        for index, output in enumerate(self._run_blocks(self.drop_after_pos(tokens), grid)):
            if index >= first:
                last_stage = index >= total - self.depths[-1]
                output = self._final_norm(output) if final_norm and last_stage else output
                outputs.append(_mean_first(output))
        return outputs

    def _run_blocks(self, tokens: Tensor, grid: tuple[int, int]) -> Iterator[Tensor]:
        """Tokens after each block."""
        for stage in self.stages:
            for block in stage.blocks:
                if self.with_cp and self.training:
                    tokens = checkpoint(block, tokens, grid, use_reentrant=False)
                else:
                    tokens = block(tokens, grid)
                yield tokens
            if stage.downsample is not None:
                tokens, grid = stage.downsample(tokens, grid)

    def _final_norm(self, tokens: Tensor) -> Tensor:
        return self.get_submodule(f'norm{self.num_layers - 1}')(tokens)

    def _mask(self, tokens: Tensor, masks: Tensor, grid: Sequence[int]) -> Tensor:
        if self.mask_token is None:
            raise ValueError('Masks were given to a backbone built with mask_token=False.')
        times = 2 ** (self.num_layers - 1)
        if tuple(times * size for size in masks.shape[1:]) != tuple(grid):
            raise ValueError(
                f'Masks of {tuple(masks.shape[1:])} positions, repeated {times} times, do not fit '
                f'the patch grid {tuple(grid)} of the images: give MaskGenerator '
                f'patch_size={self.stride}, the stride of the last stage, and use global crops of '
                'a multiple of it.'
            )
        masks = masks.repeat_interleave(times, 1).repeat_interleave(times, 2)  # (B, H/p, W/p)
        return torch.where(masks.flatten(1)[..., None], self.mask_token.to(tokens.dtype), tokens)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth for layer-wise decay; the mask token is of the embedding."""
        if param_name == f'{prefix}mask_token':
            return 0, sum(self.depths) + 2
        return super().get_layer_depth(param_name, prefix)


def _mean_first(tokens: Tensor) -> Tensor:
    return torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)


def _stage(resolution: int, window_size: int, norm_cfg: dict) -> dict:
    """mmpretrain's settings of a stage whose smaller side has ``resolution`` positions."""
    blocks: dict = dict(norm_cfg=norm_cfg)
    if resolution <= window_size:
        blocks.update(shift=False)
    return dict(
        window_size=min(window_size, resolution),
        block_cfgs=blocks,
        downsample_cfg=dict(norm_cfg=norm_cfg),
    )
