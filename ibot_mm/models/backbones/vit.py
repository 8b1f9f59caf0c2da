# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Vision Transformer with a mask token."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import initialize
from mmengine.model.weight_init import constant_init, trunc_normal_, trunc_normal_init
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ibot_mm.functional.position_embedding import resize_position_embedding
from ibot_mm.registry import MODELS


def _arch(embed_dims: int, num_layers: int, num_heads: int) -> dict:
    return dict(
        embed_dims=embed_dims,
        num_layers=num_layers,
        num_heads=num_heads,
        feedforward_channels=4 * embed_dims,
    )


@MODELS.register_module()
class MaskedVisionTransformer(VisionTransformer):
    """mmpretrain's Vision Transformer as iBOT trains it.

    Three things differ from the base class: masked patches are replaced by a learned token before
    the position embedding is added; the position embedding is resized as published; weights
    start from a truncated normal distribution of deviation 0.02. Parameter names are those of the
    base class, so checkpoints go both ways.

    Args:
        arch (str | dict): 'tiny', 'small', 'base' or 'large' for ViT-T, S, B, L (192, 384, 768,
            1024 channels; mmpretrain's own 'small' is another network), or a dict with
            ``embed_dims``, ``num_layers``, ``num_heads``, ``feedforward_channels``.
            Defaults to 'base'.
        mask_token (bool): Whether to learn a mask token; the teacher has none. Defaults to True.
        checkpoint_activations (bool): Recompute each layer in the backward pass instead of
            keeping its activations. Defaults to False.
        out_type (str): As in mmpretrain; the algorithm needs 'raw'. Defaults to 'raw'.
        out_indices (Sequence[int] | int): As in mmpretrain. Defaults to -1, the last layer.
        patch_cfg (dict): Of the patch embedding. Defaults to ``dict(padding=0)``: as published,
            images are cut to a multiple of the patch, where mmpretrain pads.
        **kwargs: Everything else that :class:`mmpretrain.models.VisionTransformer` takes.

    Raises:
        ValueError: If ``arch`` is unknown or incomplete.
    """

    arch_zoo = {
        'tiny': _arch(192, 12, 3),
        'small': _arch(384, 12, 6),
        'base': _arch(768, 12, 12),
        'large': _arch(1024, 24, 16),
    }

    def __init__(
        self,
        arch: str | dict = 'base',
        mask_token: bool = True,
        checkpoint_activations: bool = False,
        out_type: str = 'raw',
        out_indices: Sequence[int] | int = -1,
        patch_cfg: dict = dict(padding=0),
        **kwargs: Any,
    ) -> None:
        self._check_arch(arch)
        # The base class writes resolved indices into the sequence: never hand it the caller's.
        out_indices = out_indices if isinstance(out_indices, int) else list(out_indices)
        super().__init__(
            arch=arch, out_type=out_type, out_indices=out_indices, patch_cfg=patch_cfg, **kwargs
        )
        self.checkpoint_activations = checkpoint_activations
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if mask_token else None

    @classmethod
    def _check_arch(cls, arch: str | dict) -> None:
        if isinstance(arch, str) and arch not in cls.arch_zoo:
            raise ValueError(
                f"Unknown arch '{arch}' of {cls.__name__}: choose from {sorted(cls.arch_zoo)}, or "
                'give a dict with embed_dims, num_layers, num_heads and feedforward_channels.'
            )
        missing = set(cls.arch_zoo['base']) - set(arch) if isinstance(arch, dict) else None
        if missing:
            raise ValueError(f'The arch of {cls.__name__} lacks {sorted(missing)}: got {arch}.')

    def init_weights(self) -> None:
        """Initialise as published; ``init_cfg`` has the last word."""
        super().init_weights()
        if isinstance(self.init_cfg, dict) and self.init_cfg.get('type') == 'Pretrained':
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_init(module, std=0.02, bias=0)
            elif isinstance(module, nn.LayerNorm):
                constant_init(module, 1)
        self.patch_embed.projection.reset_parameters()
        if self.cls_token is not None:
            trunc_normal_(self.cls_token, std=0.02)
        if self.init_cfg is not None:
            initialize(self, self.init_cfg)

    def train(self, mode: bool = True) -> 'MaskedVisionTransformer':
        """Set the mode and return the module (the base class returns nothing)."""
        super().train(mode)
        return self

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, ...]:
        """Features of the layers in ``out_indices``.

        Args:
            images: Shape (B, 3, H, W).
            masks: True where a patch is hidden from the network, shape (B, H/p, W/p).
                Defaults to None, nothing hidden.

        Returns:
            One tensor for each of ``out_indices``, in the form of ``out_type``; for 'raw' shape
            (B, 1 + H/p * W/p, D), [CLS] first.

        Raises:
            ValueError: If masks are given to a network without mask token, or do not fit the
                patch grid.
        """
        tokens, grid = self.patch_embed(images)  # (B, N, D), (H/p, W/p)
        if masks is not None:
            tokens = self._mask(tokens, masks, grid)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + resize_position_embedding(
            self.pos_embed, self.patch_resolution, grid, self.num_extra_tokens
        )
        tokens = self.pre_norm(self.drop_after_pos(tokens))

        outputs = []
        for index, layer in enumerate(self.layers):
            if self.checkpoint_activations and self.training:
                tokens = checkpoint(layer, tokens, use_reentrant=False)
            else:
                tokens = layer(tokens)
            if index == len(self.layers) - 1 and self.final_norm:
                tokens = self.ln1(tokens)
            if index in self.out_indices:
                outputs.append(self._format_output(tokens, grid))
        return tuple(outputs)

    def _mask(self, tokens: Tensor, masks: Tensor, grid: tuple[int, int]) -> Tensor:
        if self.mask_token is None:
            raise ValueError('Masks were given to a backbone built with mask_token=False.')
        if tuple(masks.shape[1:]) != tuple(grid):
            raise ValueError(
                f'Masks of {tuple(masks.shape[1:])} patches do not fit the grid {tuple(grid)} of '
                'the images: the patch_size of DrawMasks and of the backbone must be equal.'
            )
        return torch.where(masks.flatten(1)[..., None], self.mask_token.to(tokens.dtype), tokens)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay; the mask token belongs to the embedding."""
        if param_name == f'{prefix}mask_token':
            return 0, self.num_layers + 2
        return super().get_layer_depth(param_name, prefix)
