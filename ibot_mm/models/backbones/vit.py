# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Vision Transformer with a mask token, registers and rotary position embedding."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from mmcv.cnn.bricks.drop import DropPath
from mmengine.model import initialize
from mmengine.model.weight_init import constant_init, trunc_normal_, trunc_normal_init
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ibot_mm.functional.position_embedding import resize_position_embedding
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.rotary_embedding import rotary_angles
from ibot_mm.functional.token_selection import token_rows
from ibot_mm.registry import MODELS

from .arch import ARCH_ZOO, resolve_arch
from .attention import EncoderLayer, attend
from .layer_numbers import check_frozen_stages, check_num_blocks, resolve_indices
from .patch_embedding import embed_patches
from .patches import check_size, hide_patches
from .several_sizes import forward_sizes

Grid = tuple[int, int]


@MODELS.register_module()
class MaskedVisionTransformer(VisionTransformer):
    """mmpretrain's Vision Transformer as iBOT trains it.

    Three things differ from the base class: masked patches are replaced by a learned token before
    the position embedding is added; the position embedding is resized as published; weights
    start from a truncated normal distribution of deviation 0.02. Parameter names are those of the
    base class, so checkpoints go both ways.

    Registers and rotary position embedding are there for the weights of DINOv2 and DINOv3.

    Args:
        arch (str | dict): 'tiny', 'small', 'base' or 'large' for ViT-T, S, B, L (192, 384, 768,
            1024 channels; mmpretrain's own 'small' is another network), or a dict with
            ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
            Defaults to 'base'.
        mask_token (bool): Whether to learn a mask token; the teacher has none. Defaults to True.
        num_registers (int): Learned tokens between [CLS] and the patches, without position,
            dropped from the outputs. Defaults to 0.
        rotary (bool): Turn queries and keys of patches by their place in the image, as DINOv3
            does, instead of adding a learned position embedding. Defaults to False.
        with_cp (bool): Recompute each layer in the backward pass instead of keeping its
            activations. Defaults to False.
        frozen_stages (int): 0 freezes the embedding ([CLS], position, mask and register tokens
            included), n also the first n layers, the number of layers also the final norm.
            What is frozen stays in evaluation mode. Defaults to -1, nothing.
        out_type (str): As in mmpretrain; the algorithm needs 'raw', the head of a classifier
            'cls_token'. Defaults to 'raw'.
        out_indices (Sequence[int] | int): Layers whose outputs are returned, in increasing order;
            negative ones count from the end. Defaults to -1, the last layer.
        patch_cfg (dict): Of the patch embedding. Defaults to ``dict(padding=0)``: as published,
            images are cut to a multiple of the patch, where mmpretrain pads.
        **kwargs: Everything else that :class:`mmpretrain.models.VisionTransformer` takes.

    Raises:
        ValueError: If ``arch`` is unknown or incomplete, ``out_indices`` or ``frozen_stages``
            do not fit the number of layers, or a size, number or rate is out of range.
    """

    init_cfg: dict | list | None
    selects_tokens = True  # forward() takes `patches`
    packs_sizes = True  # forward() takes lists, of images of several sizes
    arch_zoo = ARCH_ZOO

    def __init__(
        self,
        arch: str | dict = 'base',
        mask_token: bool = True,
        num_registers: int = 0,
        rotary: bool = False,
        with_cp: bool = False,
        frozen_stages: int = -1,
        out_type: str = 'raw',
        out_indices: Sequence[int] | int = -1,
        patch_cfg: dict = dict(padding=0),
        **kwargs: Any,
    ) -> None:
        num_layers = resolve_arch(arch, self.arch_zoo, type(self).__name__)['num_layers']
        sizes = {name: kwargs.get(name) for name in ('img_size', 'patch_size', 'in_channels')}
        rates = {name: kwargs.get(name) for name in ('drop_rate', 'drop_path_rate')}
        check_ranges(
            type(self).__name__,
            {
                'int [1, inf)': sizes,
                '[0, 1)': rates,
                'int [0, inf)': dict(num_registers=num_registers),
            },
        )
        super().__init__(
            arch=arch,
            out_type=out_type,
            out_indices=resolve_indices('out_indices', out_indices, num_layers),
            patch_cfg=patch_cfg,
            **kwargs,
        )
        for layer in self.layers:
            EncoderLayer.adopt(layer)
        for module in self.modules():
            if isinstance(module, DropPath):  # numpy's numbers would split a compiled graph
                module.drop_prob = float(module.drop_prob)
        self.rotary = rotary
        if rotary:
            self.pos_embed = None
        self.num_registers = num_registers
        self.register_tokens = self._token(num_registers) if num_registers else None
        self.mask_token = self._token(1) if mask_token else None
        self.with_cp = with_cp
        self.frozen_stages = check_frozen_stages(frozen_stages, num_layers)
        self._freeze_stages()

    def _token(self, number: int) -> nn.Parameter:
        return nn.Parameter(torch.zeros(1, number, self.embed_dims))

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
        self.patch_embed.projection.reset_parameters()
        for token in (self.cls_token, self.register_tokens):
            if token is not None:
                trunc_normal_(token, std=0.02)
        if init_cfg is not None:
            initialize(self, init_cfg)

    def train(self, mode: bool = True) -> 'MaskedVisionTransformer':
        """Set the mode, but of what is frozen, and return the module."""
        super().train(mode)  # the base class returns nothing
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        super()._freeze_stages()
        for token in (self.register_tokens, self.mask_token):
            if token is not None:
                token.requires_grad = False

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        """Before loading: the base class resizes, if the number of extra tokens is right."""
        name = f'{prefix}pos_embed'
        if self.pos_embed is None or name not in state_dict:
            return
        length = state_dict[name].shape[1]
        square = math.isqrt(length - 1) ** 2 == length - 1  # and [CLS]
        if self.cls_token is None and square and length != self.pos_embed.shape[1]:
            state_dict[name] = state_dict[name][:, 1:]
        super()._prepare_pos_embed(state_dict, prefix, *args)

    def forward(
        self, images: Tensor | Sequence[Tensor], masks: Any = None, patches: Any = None
    ) -> tuple[Tensor, ...]:
        """Return the features of the layers in ``out_indices``.

        Images of several sizes may come together: three lists with an entry for each size give
        what the last layer gives for each, in one pass, see :func:`forward_sizes`.

        Args:
            images: Shape (B, C, H, W).
            masks: True where a patch is hidden from the network, shape (B, H/p, W/p).
                Defaults to None, nothing hidden.
            patches: Places, among the B * N patches of the batch, of those whose final features
                are wanted besides each [CLS], shape (M,). Spares the last layer most of its work;
                hooks on that layer and its attention do not fire. Defaults to None, all.

        Returns:
            One tensor for each of ``out_indices``, in the form of ``out_type``; for 'raw' shape
            (B, 1 + H/p * W/p, D), [CLS] first. With ``patches`` one tensor of the last layer,
            (B + M, D), all [CLS] first.

        Raises:
            ValueError: If images are smaller than a patch, or masks are given to a network
                without mask token or do not fit the patch grid.
        """
        if not isinstance(images, Tensor):
            return forward_sizes(self, images, masks, patches)
        return self._run_layers(*self._embed(images, masks), patches)

    def _run_layers(
        self, tokens: Tensor, grid: Grid, angles: Any, patches: Any, first: int = 0
    ) -> tuple[Tensor, ...]:
        """Go from the input of layer ``first`` to the outputs, see :meth:`forward`."""
        outputs = []
        for index in range(first, self.num_layers - (patches is not None)):
            tokens = self._run(self._forward_layer, index, tokens, grid, angles)
            if index in self.out_indices and patches is None:
                outputs.append(self._output(index, tokens, grid))
        if patches is not None:
            extra = self.num_extra_tokens + self.num_registers
            rows = token_rows(patches, len(tokens), tokens.shape[1] - extra, extra)
            tokens = self._run(self.layers[-1].forward_rows, tokens, rows, angles)
            outputs.append(self._normalize(self.num_layers - 1, tokens))
        return tuple(outputs)

    def last_blocks(
        self, images: Tensor, num_blocks: int = 1, final_norm: bool = True
    ) -> list[Tensor]:
        """Return the tokens of the last blocks, independent of ``out_indices`` and ``out_type``.

        Args:
            images: Shape (B, C, H, W).
            num_blocks: How many, counted from the end. Defaults to 1.
            final_norm: Whether each goes through the final norm, as iBOT's evaluations read them.
                Defaults to True.

        Returns:
            For each block, in network order, (B, 1 + H/p * W/p, D): [CLS], or where there is none
            the mean of the patches, then the patches.

        Raises:
            ValueError: If the network does not have so many blocks.
        """
        first = self.num_layers - check_num_blocks(num_blocks, self.num_layers)
        tokens, grid, angles = self._embed(images, None)
        outputs = []
        for index in range(self.num_layers):
            tokens = self._run(self._forward_layer, index, tokens, grid, angles)
            if index >= first:
                kept = self.ln1(tokens) if final_norm and self.final_norm else tokens
                outputs.append(self._cls_and_patches(kept))
        return outputs

    def _cls_and_patches(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.num_extra_tokens + self.num_registers :]
        cls = tokens[:, :1] if self.cls_token is not None else patches.mean(dim=1, keepdim=True)
        return torch.cat([cls, patches], dim=1)

    def _run(self, function: Callable[..., Tensor], *args: Any) -> Tensor:
        """Call, keeping activations or not."""
        if self.with_cp and self.training:
            return checkpoint(function, *args, use_reentrant=False)
        return function(*args)

    def _embed(self, images: Tensor, masks: Tensor | None) -> tuple[Tensor, Grid, Tensor | None]:
        """Input of the first layer (B, T, D), patches last; their grid; rotary angles (N, C/2)."""
        check_size(images, self.patch_embed.projection.kernel_size)
        tokens, grid = embed_patches(self.patch_embed, images)  # (B, N, D), (H/p, W/p)
        if masks is not None:
            tokens = hide_patches(tokens, masks, self.mask_token, grid)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        if self.pos_embed is not None:
            tokens = tokens + resize_position_embedding(
                self.pos_embed, self.patch_resolution, grid, self.num_extra_tokens
            )
        if self.register_tokens is not None:  # they have no position
            extra, patches = tokens.tensor_split([self.num_extra_tokens], dim=1)
            registers = self.register_tokens.expand(tokens.shape[0], -1, -1)
            tokens = torch.cat([extra, registers, patches], dim=1)
        angles = None
        if self.rotary:
            channels = self.embed_dims // self.arch_settings['num_heads']
            angles = rotary_angles(grid, channels, device=tokens.device)
        return self.pre_norm(self.drop_after_pos(tokens)), grid, angles

    def _forward_layer(
        self, index: int, tokens: Tensor, grid: Grid, angles: Tensor | None
    ) -> Tensor:
        return self.layers[index](tokens, partial(attend, angles=angles))

    def _output(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Return normalized tokens without registers, in the form of ``out_type``."""
        if self.register_tokens is not None:
            extra, _, patches = tokens.tensor_split(
                [self.num_extra_tokens, self.num_extra_tokens + self.num_registers], dim=1
            )
            tokens = torch.cat([extra, patches], dim=1)
        output = self._format_output(self._normalize(index, tokens), grid)
        # Feature maps are views of tokens, channels last, and convolutions keep that order; on it
        # mmcv's RoIAlign gives wrong values on the CPU without a word.
        return output.contiguous() if self.out_type == 'featmap' else output

    def _normalize(self, index: int, tokens: Tensor) -> Tensor:
        return self.ln1(tokens) if self.final_norm and index == self.num_layers - 1 else tokens

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter for layer-wise decay, and the number of depths.

        0 for the embedding, with [CLS], position, mask and register tokens; i + 1 for layer i;
        the last for everything else.
        """
        name = param_name.removeprefix(prefix) if param_name.startswith(prefix) else ''
        if name in ('mask_token', 'register_tokens') or name.startswith('pre_norm.'):
            return 0, self.num_layers + 2
        return super().get_layer_depth(param_name, prefix)
