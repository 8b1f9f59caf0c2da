# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Where [CLS] and registers of a ViT look: the weights that its attention layers compute."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)


@torch.no_grad()
def cls_attention(
    backbone: nn.Module,
    images: Tensor,
    forward: Callable[[Tensor], Any] | None = None,
    layer: int | None = None,
    token: int = 0,
) -> Tensor:
    """Compute the attention of [CLS] to the patches in a layer of a ViT.

    Fused attention does not return its weights, so they are computed again from the queries and
    keys that the layer hands to it: with rotary positions, normalized queries and keys, and
    position bias, where the network has them.

    Args:
        backbone: A built ViT in evaluation mode whose layers attend by torch's
            ``scaled_dot_product_attention`` or by a softmax over all tokens, such as those of
            mmpretrain, timm and this package.
        images: (B, 3, H, W), normalized as for the backbone, on its device.
        forward: Runs the backbone once on the images, so that its outputs can be kept, too.
            Defaults to None, the backbone itself.
        layer: Counted from 1. Defaults to None, the last.
        token: 0 for [CLS], n for the n-th register. Defaults to 0.

    Returns:
        Attention (B, heads, H / patch, W / patch) in float32, or float64 of a network in float64.
        The rest to a sum of 1 is what the token pays to [CLS] and to registers.

    Raises:
        ValueError: If the backbone has no such layer, tokens that are not [CLS], registers and a
            grid, or no such register.
    """
    kind = type(backbone).__name__
    extra = getattr(backbone, 'num_extra_tokens', 1) + getattr(backbone, 'num_registers', 0)
    if hasattr(backbone, 'stages'):
        raise ValueError(
            f'{kind} attends within windows and has no [CLS] token: attention maps need a ViT. '
            'Its patches can be shown by pca, similarity, correspondence and neighbors'
        )
    if not 0 <= token < max(extra, 1):
        raise ValueError(f'{kind} has {max(extra - 1, 0)} registers: there is not a token {token}')
    with _Attention(max(extra, 1)) as caught:
        (forward or backbone)(images)
    if not caught.rows:
        raise ValueError(f'{kind} has no attention layer: attention maps need a ViT')
    if layer is not None and not 1 <= layer <= len(caught.rows):
        raise ValueError(f'layer must be between 1 and {len(caught.rows)} of {kind}, got {layer}')
    last = int(getattr(backbone, 'num_layers', 0))  # pooling may come behind the layers
    rows = caught.rows[(layer or last) - 1]
    patches = rows[:, :, token, extra:]  # (B, heads, H / patch * W / patch)

    height, width = images.shape[-2:]
    patch = round(math.sqrt(height * width / max(patches.size(-1), 1)))
    if extra < 1 or (height // patch) * (width // patch) != patches.size(-1):
        raise ValueError(
            f'{kind} has {rows.size(-1)} tokens for an image of {height} x {width}, which are not '
            'a [CLS] token and a grid of patches: use a ViT with a class token and images whose '
            'sides are multiples of the patch size'
        )
    return patches.unflatten(-1, (height // patch, width // patch))


class _Attention(TorchFunctionMode):
    """Keeps the weights of the first tokens in every attention that runs.

    Args:
        number: How many tokens.

    Attributes:
        rows (list[Tensor]): Of each layer, (B, heads, number, T).
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.rows: list[Tensor] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._keep_fused(*args, **kwargs)
        elif func in SOFTMAX and output.ndim == 4 and output.size(-1) == output.size(-2):
            self.rows.append(_precise(output[:, :, : self.number]))
        return output

    def _keep_fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **_: Any,
    ) -> None:
        if query.ndim != 4 or query.size(2) != key.size(2):
            return  # such as pooling by a query of its own
        query = _precise(query[:, :, : self.number])
        logits = query @ _precise(key).transpose(2, 3) * (scale or 1 / math.sqrt(query.size(-1)))
        if attn_mask is not None:
            rows = attn_mask[..., : self.number, :] if attn_mask.size(-2) > 1 else attn_mask
            if rows.dtype == torch.bool:
                logits = logits.masked_fill(~rows, -torch.inf)
            else:
                logits = logits + rows
        self.rows.append(logits.softmax(dim=-1))


def _precise(values: Tensor) -> Tensor:
    """Return values in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
