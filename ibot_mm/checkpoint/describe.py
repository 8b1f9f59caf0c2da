# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a ViT is: read off its weights, as far as they show it, or off a backbone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from .errors import CheckpointError
from .formats import Format
from .recognize import Network, num_layers
from .resize import TOKENS_BEFORE_PATCHES, source_layout
from .settings import Settings

# (channels, layers) -> heads, of the networks that everyone has: ViT-T, S, B, L, and DINOv2's g.
# ViT-H has 16 or 20 heads, depending on whose it is.
USUAL_HEADS = {(192, 12): 3, (384, 12): 6, (768, 12): 12, (1024, 24): 16, (1536, 40): 24}
EPS = 1e-6  # of iBOT, DINO, DINOv2, timm


@dataclass(frozen=True)
class ViTDescription:
    """A Vision Transformer.

    Args:
        embed_dims: Channels of a token.
        num_layers: Encoder layers.
        num_heads: Attention heads, None where nothing tells them.
        heads_from: What tells the heads, for messages.
        hidden: Hidden channels of the feed-forward network.
        patch_size: Pixels (h, w).
        in_channels: Channels of images.
        grid: Patches (H, W) of the learned position embedding; None where there is none.
        norm_eps: The eps of norms.
        cls_token: Whether it has a [CLS] token.
        num_registers: Register tokens.
        mask_token: Whether it has a mask token.
        layer_scale: Whether branches are scaled.
        gated: Whether the feed-forward network is a SwiGLU.
        rotary: Whether it has DINOv3's rotary position embedding.
        qkv_bias: Whether queries, keys and values have biases.
        patch_bias: Whether the patch embedding has one.
        pre_norm: Whether there is a norm before the layers.
        final_norm: Whether there is one after them.
    """

    embed_dims: int
    num_layers: int
    num_heads: int | None
    heads_from: str
    hidden: int
    patch_size: tuple[int, int]
    in_channels: int
    grid: tuple[int, int] | None
    norm_eps: float
    cls_token: bool
    num_registers: int
    mask_token: bool
    layer_scale: bool
    gated: bool
    rotary: bool
    qkv_bias: bool
    patch_bias: bool
    pre_norm: bool
    final_norm: bool

    @property
    def img_size(self) -> tuple[int, int]:
        """Pixels (H, W) that the position embedding is for; 14 x 14 patches where there is none."""
        rows, columns = self.grid or (14, 14)
        return rows * self.patch_size[0], columns * self.patch_size[1]

    def options(self) -> dict[str, Any]:
        """Arguments of :class:`ibot_mm.MaskedVisionTransformer`; defaults are left out.

        Raises:
            CheckpointError: If the heads are not known, or mmpretrain has no such SwiGLU.
        """
        if self.num_heads is None:
            raise CheckpointError(
                f'weights do not show how many attention heads a ViT has, and {self.embed_dims} '
                f'channels with {self.num_layers} layers are no usual size: give num_heads'
            )
        if self.gated and self.hidden % 8:
            raise CheckpointError(
                f"mmpretrain's SwiGLU has a multiple of 8 hidden channels, the checkpoint's "
                f'{self.hidden}: such weights cannot be loaded'
            )
        arch = dict(
            embed_dims=self.embed_dims,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            # mmpretrain's SwiGLU takes two thirds of the number that it is given.
            feedforward_channels=self.hidden * 3 // 2 if self.gated else self.hidden,
        )
        size, patch = self.img_size, self.patch_size
        options: dict[str, Any] = dict(
            arch=arch,
            img_size=size[0] if size[0] == size[1] else size,
            patch_size=patch[0] if patch[0] == patch[1] else patch,
            mask_token=self.mask_token,
        )
        unusual = dict(
            in_channels=(self.in_channels, 3),
            with_cls_token=(self.cls_token, True),
            num_registers=(self.num_registers, 0),
            rotary=(self.rotary, False),
            layer_scale_init_value=(1e-5 if self.layer_scale else 0.0, 0.0),
            qkv_bias=(self.qkv_bias, True),
            pre_norm=(self.pre_norm, False),
            final_norm=(self.final_norm, True),
            norm_cfg=(dict(type='LN', eps=self.norm_eps), dict(type='LN', eps=EPS)),
            layer_cfgs=(dict(ffn_type='swiglu_fused') if self.gated else {}, {}),
        )
        options |= {name: value for name, (value, default) in unusual.items() if value != default}
        if self.patch_bias == self.pre_norm:  # mmpretrain's is there without the other
            options['patch_cfg'] = dict(padding=0, bias=self.patch_bias)
        return options


def describe_weights(
    network: Network, settings: Settings, num_heads: int | None = None
) -> ViTDescription:
    """Describe a ViT of a checkpoint.

    Heads and the eps of norms leave no trace in weights. They are taken from ``num_heads``, else
    from ``settings``, else from what is usual for this size and format.

    Args:
        network: As from :func:`recognize`.
        settings: What is told beside the weights.
        num_heads: Attention heads. Defaults to None, not told.

    Raises:
        CheckpointError: If the patches of the position embedding cannot be told, or essential
            weights are missing.
    """
    state, format = network.weights.state, network.format
    heads, heads_from = _heads(state, settings, num_heads)
    return _describe(
        state,
        num_heads=heads,
        heads_from=heads_from,
        grid=_grid(state, format, settings) if 'pos_embed' in state else None,
        norm_eps=settings.norm_eps or format.norm_eps or EPS,
        rotary='pos_embed' not in state and format.rotary,
    )


def describe_backbone(backbone: nn.Module) -> ViTDescription:
    """Describe a backbone with mmpretrain's names, such as ours."""
    module = cast(Any, backbone)
    layer = module.get_submodule('layers.0')
    return _describe(
        module.state_dict(),
        num_heads=layer.attn.num_heads,
        heads_from='the backbone',
        grid=tuple(module.patch_resolution) if module.pos_embed is not None else None,
        norm_eps=layer.ln1.eps,
        rotary=getattr(module, 'rotary', False),
    )


def _describe(state: Mapping[str, Tensor], **known: Any) -> ViTDescription:
    patches = state['patch_embed.projection.weight']
    layer = 'layers.0.'
    gated = f'{layer}ffn.w3.weight' in state
    second = f'{layer}ffn.w3.weight' if gated else f'{layer}ffn.layers.1.weight'
    if second not in state:
        raise CheckpointError(f"it is not complete, it lacks '{second}'")
    return ViTDescription(
        embed_dims=patches.shape[0],
        num_layers=num_layers(state),
        hidden=state[second].shape[1],
        patch_size=(patches.shape[2], patches.shape[3]),
        in_channels=patches.shape[1],
        cls_token='cls_token' in state,
        num_registers=state['register_tokens'].shape[1] if 'register_tokens' in state else 0,
        mask_token='mask_token' in state,
        layer_scale=f'{layer}attn.gamma1.weight' in state,
        gated=gated,
        qkv_bias=f'{layer}attn.qkv.bias' in state,
        patch_bias='patch_embed.projection.bias' in state,
        pre_norm='pre_norm.weight' in state,
        final_norm='ln1.weight' in state,
        **known,
    )


def _heads(
    state: Mapping[str, Tensor], settings: Settings, num_heads: int | None
) -> tuple[int | None, str]:
    size = (state['patch_embed.projection.weight'].shape[0], num_layers(state))
    usual = USUAL_HEADS.get(size)
    for heads, origin in (
        (num_heads, 'as given'),
        (settings.num_heads, f'by {settings.origin}'),
        (usual, f'usual for {size[0]} channels and {size[1]} layers'),
    ):
        if heads is not None:
            if size[0] % heads:
                raise CheckpointError(f'{size[0]} channels are not divisible by {heads} heads')
            return heads, origin
    return None, 'not told by weights'


def _grid(state: Mapping[str, Tensor], format: Format, settings: Settings) -> tuple[int, int]:
    told = settings.img_size or (0, 0)
    height, width = (told, told) if isinstance(told, int) else told
    patch = state['patch_embed.projection.weight'].shape[2:]
    lengths = {name: state[name].shape[1] for name in TOKENS_BEFORE_PATCHES if name in state}
    numbers = [sum(lengths.get(n, 0) for n in names) for names in format.with_positions]
    length = state['pos_embed'].shape[1]
    try:
        return source_layout(length, numbers, (height // patch[0], width // patch[1]))[1]
    except CheckpointError:
        raise CheckpointError(
            f'the position embedding has {length} entries, which are no square grid, and nothing '
            'in the file tells the size of the images'
        ) from None
