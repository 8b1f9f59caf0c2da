# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Any plain Vision Transformer of timm, with a mask token."""

import logging
import re
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import MODELS

from .create_timm import create_timm_vit
from .layer_numbers import check_frozen_stages, check_num_blocks, resolve_indices
from .patches import check_channels, check_size, hide_patches

OUT_TYPES = ('raw', 'featmap', 'cls_token')


@MODELS.register_module()
class TimmVisionTransformer(BaseModule):
    """A Vision Transformer of timm as iBOT trains it.

    The network is timm's own, run by its ``forward_intermediates``: with no masks, tokens are
    those of its ``forward_features``. Masked patches are replaced where they leave timm's patch
    embedding, before a position is added. A learned position embedding is resized by timm for
    images of another size than ``img_size`` (bicubic with antialiasing), rotary ones are computed
    for each size, and images are padded with zeros to a multiple of the patch. Families whose
    positions have one size only, BEiT and those with relative position bias, take images of
    ``img_size`` alone; their pre-training has no local crops, or ones of that size.

    In the place of [CLS] stands the network's own, or, where it has none, what timm makes of the
    patches for a classifier: their mean, or the output of an attention pooling. Registers and
    DeiT's distillation token are left out.

    Parameter names are ``timm_model.`` and timm's, so that a plain ``timm.create_model(model_name,
    num_classes=0, **kwargs)`` takes them, without that prefix, by ``load_state_dict``. Weights
    start as timm starts them.

    Args:
        model_name (str): As ``timm.create_model`` takes it, with a tag of weights or without. Of
            these classes of timm: VisionTransformer (ViT, DeiT, DINOv2, SigLIP, ...), Eva (EVA02,
            DINOv3, Perception Encoder, ...), Beit, VisionTransformerRelPos; docs/timm_families.md
            has a table.
        mask_token (bool): Whether to learn a mask token; the teacher has none. Defaults to True.
        out_type (str): 'raw' for tokens, which the algorithm needs; 'featmap' for maps of the
            patches; 'cls_token'. Defaults to 'raw'.
        out_indices (Sequence[int] | int): Layers whose outputs are returned, in increasing order;
            negative ones count from the end. Defaults to -1, the last layer.
        final_norm (bool): Whether timm's final norm is applied to the last layer's output.
            Defaults to True.
        frozen_stages (int): 0 freezes the embedding (all tokens and positions included), n also
            the first n layers, the number of layers everything. What is frozen stays in
            evaluation mode. Defaults to -1, nothing.
        with_cp (bool): Recompute each layer in the backward pass instead of keeping its
            activations. Defaults to False.
        init_cfg (dict | list, optional): Initialization, such as
            ``dict(type='ibot_mm.Pretrained', checkpoint=...)``. Defaults to None.
        **kwargs: All else that ``timm.create_model`` takes: ``img_size``, ``patch_size``,
            ``drop_path_rate``, ``pretrained``, ``embed_dim``, ...

    Attributes:
        timm_model (nn.Module): The network.
        embed_dims (int): Channels D of a token.
        num_layers (int): Number of layers.
        out_channels (list[int]): Channels of the outputs, ``in_channels`` of a neck.
        num_extra_tokens (int): 1 with a [CLS] of its own, else 0.
        num_registers (int): Further tokens before the patches.
        rotary (bool): Whether it has rotary position embedding.

    Raises:
        ImportError: If timm is not installed or too old.
        ValueError: If timm has no such model, it cannot serve, or an option is out of range.
    """

    def __init__(
        self,
        model_name: str,
        mask_token: bool = True,
        out_type: str = 'raw',
        out_indices: Sequence[int] | int = -1,
        final_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | list | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type must be one of {OUT_TYPES}, got {out_type!r}.')
        rates = {name: kwargs.get(name) for name in ('drop_path_rate', 'proj_drop_rate')}
        check_ranges(type(self).__name__, {'[0, 1)': rates})
        self.timm_model = create_timm_vit(model_name, **kwargs)
        self.timm_model.is_init = True  # else mmengine calls its init_weights, over what was loaded
        self.timm_model.set_grad_checkpointing(with_cp)
        self.timm_model.patch_embed.register_forward_hook(self._hide)
        self._masks: Tensor | None = None  # what that hook hides, for the time of a forward
        self.with_cls_token = self.timm_model.cls_token is not None
        self.num_extra_tokens = int(self.with_cls_token)
        self.num_registers = self.timm_model.num_prefix_tokens - self.num_extra_tokens
        self.rotary = getattr(self.timm_model, 'rope', None) is not None
        self.embed_dims = self.timm_model.embed_dim
        self.num_layers = len(self.timm_model.blocks)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if mask_token else None
        self.out_type = out_type
        self.out_indices = resolve_indices('out_indices', out_indices, self.num_layers)
        self.out_channels = [self.embed_dims] * len(self.out_indices)
        self.final_norm = final_norm and self.out_indices[-1] == self.num_layers - 1
        self.frozen_stages = check_frozen_stages(frozen_stages, self.num_layers)
        self._freeze_unused()
        self._freeze_stages()
        if self.final_norm:
            self._tell_of_missing_norm(model_name)

    def _freeze_unused(self) -> None:
        """No gradient for what no output depends on: distributed training would wait for it."""
        model = self.timm_model
        unused = [*model.blocks[self.out_indices[-1] + 1 :]]
        if not self.final_norm:
            unused.append(model.norm)
        if self.with_cls_token or self.out_type == 'featmap':
            unused += [model.fc_norm, getattr(model, 'attn_pool', None)]
        for part in unused:
            if part is not None:
                part.requires_grad_(False)

    def _tell_of_missing_norm(self, model_name: str) -> None:
        norm, fc_norm = self.timm_model.norm, self.timm_model.fc_norm
        if isinstance(norm, nn.Identity) and not isinstance(fc_norm, nn.Identity):
            print_log(
                f'{model_name} of timm normalizes only what it pools, so that its tokens have no '
                'final norm. For one set fc_norm=False (use_fc_norm=False of Eva and Beit), here '
                'and where timm loads the weights.',
                logger='current',
                level=logging.WARNING,
            )

    @property
    def patch_embed(self) -> nn.Module:
        """The patch embedding, under the name that it has in every backbone."""
        return self.timm_model.patch_embed

    def train(self, mode: bool = True) -> 'TimmVisionTransformer':
        """Set the mode, but of what is frozen, and return the module."""
        super().train(mode)
        self._freeze_stages()
        return self

    def _freeze_stages(self) -> None:
        if self.frozen_stages < 0:
            return
        for name, parameter in self.named_parameters():
            if self._is_frozen(name):
                parameter.requires_grad = False
        for name, module in self.timm_model.named_modules(prefix='timm_model'):
            if self._is_frozen(f'{name}.'):
                module.training = False

    def _is_frozen(self, name: str) -> bool:
        return self.get_layer_depth(name)[0] <= self.frozen_stages or (
            self.frozen_stages == self.num_layers
        )

    def forward(self, images: Tensor, masks: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the features of the layers in ``out_indices``.

        Args:
            images: Shape (B, C, H, W).
            masks: True where a patch is hidden from the network, shape (B, H/p, W/p).
                Defaults to None, nothing hidden.

        Returns:
            One tensor for each of ``out_indices``: for 'raw' (B, 1 + H/p * W/p, D), [CLS] first;
            for 'featmap' (B, D, H/p, W/p); for 'cls_token' (B, D).

        Raises:
            ValueError: If images are smaller than a patch or of a size that the network does not
                take, or masks are given to a network without mask token or do not fit the grid.
        """
        model = self.timm_model
        size = tuple(images.shape[-2:])
        check_size(images, model.patch_embed.patch_size)
        check_channels(images, model.patch_embed.proj.in_channels)
        if model.patch_embed.strict_img_size and size != tuple(model.patch_embed.img_size):
            raise ValueError(
                f'{type(model).__name__} of timm takes images of {model.patch_embed.img_size} '
                f'pixels only, got {size}: set img_size to the size of the images, and for '
                'pre-training num_local_crops=0 of MultiCrop.'
            )
        prefixed = model.num_prefix_tokens > 0
        self._masks = masks
        last, layers = model.forward_intermediates(
            images,
            indices=self.out_indices,
            return_prefix_tokens=prefixed,
            stop_early=True,
            output_fmt='NLC',
        )
        self._masks = None
        if prefixed:
            layers = [torch.cat([prefix, patches], dim=1) for patches, prefix in layers]
        if self.final_norm:
            layers[-1] = last
        grid = model.patch_embed.dynamic_feat_size(size)
        return tuple(self._output(tokens, grid) for tokens in layers)

    def last_blocks(
        self, images: Tensor, num_blocks: int = 1, final_norm: bool = True
    ) -> list[Tensor]:
        """Return the tokens of the last blocks, independent of ``out_indices`` and ``out_type``.

        Args:
            images: Shape (B, C, H, W).
            num_blocks: How many, counted from the end. Defaults to 1.
            final_norm: Whether each goes through timm's final norm. Defaults to True.

        Returns:
            For each block, in network order, (B, 1 + H/p * W/p, D): [CLS], or what timm makes of
            the patches where there is none, then the patches.

        Raises:
            ValueError: If the network does not have so many blocks.
        """
        model = self.timm_model
        outputs = model.forward_intermediates(
            images,
            indices=check_num_blocks(num_blocks, self.num_layers),
            return_prefix_tokens=model.num_prefix_tokens > 0,
            norm=final_norm,
            output_fmt='NLC',
            intermediates_only=True,
        )
        if model.num_prefix_tokens:
            outputs = [torch.cat([prefix, patches], dim=1) for patches, prefix in outputs]
        return [self._cls_and_patches(tokens) for tokens in outputs]

    def _cls_and_patches(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, self.timm_model.num_prefix_tokens :]
        if self.with_cls_token:
            cls = tokens[:, 0]
        else:
            cls = self.timm_model.forward_head(tokens, pre_logits=True)
        return torch.cat([cls[:, None], patches], dim=1)

    def _hide(self, module: Any, inputs: tuple[Tensor], patches: Tensor) -> Tensor | None:
        """Of patches (B, H/p, W/p, D) or (B, H/p * W/p, D), after timm's embedding of them."""
        if self._masks is None:
            return None
        grid = module.dynamic_feat_size(inputs[0].shape[-2:])
        hidden = hide_patches(patches.flatten(1, -2), self._masks, self.mask_token, grid)
        return hidden.view_as(patches)

    def _output(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of a layer, shape (B, T, D), in the form of ``out_type``."""
        patches = tokens[:, self.timm_model.num_prefix_tokens :]
        if self.out_type == 'featmap':
            # Contiguous: on a view mmcv's RoIAlign gives wrong values on the CPU without a word.
            return patches.transpose(1, 2).unflatten(2, grid).contiguous()
        tokens = self._cls_and_patches(tokens)
        return tokens[:, 0] if self.out_type == 'cls_token' else tokens

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter for layer-wise decay, and the number of depths.

        0 for the embedding, with all tokens and positions; i + 1 for layer i; the last for
        everything else.
        """
        last = self.num_layers + 1
        name = param_name.removeprefix(prefix) if param_name.startswith(prefix) else ''
        if block := re.match(r'timm_model\.blocks\.(\d+)\.', name):
            depth = int(block[1]) + 1
        elif re.match(r'mask_token|timm_model\.(?!(norm|fc_norm|attn_pool)\.)', name):
            depth = 0
        else:
            depth = last
        return depth, last + 1
