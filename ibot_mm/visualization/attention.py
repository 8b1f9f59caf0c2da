# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Where the [CLS] token of a ViT looks: maps of its last attention layer, and pictures of them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor, nn

CELL = 1.9  # inches per picture
PAIRS_PER_ROW = 3


@torch.no_grad()
def cls_attention(
    backbone: nn.Module, images: Tensor, forward: Callable[[Tensor], Any] | None = None
) -> Tensor:
    """Compute the attention of [CLS] to the patches in a ViT's last layer.

    Attention layers do not return their weights, so they are computed again from what the last
    layer's ``qkv`` projection gives: softmax of ``q k / sqrt(channels of a head)``.

    Args:
        backbone: A built ViT in evaluation mode, of mmpretrain's layout or any other whose last
            attention module has ``num_heads`` and a linear layer ``qkv`` with outputs in the
            order q, k, v.
        images: (B, 3, H, W), normalized as for the backbone, on its device.
        forward: Runs the backbone once on the images, so that its outputs can be kept, too.
            Defaults to None, the backbone itself.

    Returns:
        Attention (B, heads, H / patch, W / patch) in float32, or float64 of a network in float64.
        The rest to a sum of 1 is what [CLS] pays to itself and to registers.

    Raises:
        ValueError: If the backbone has no such layer, rotary position embedding, or tokens that are
            not [CLS], registers and a grid.
    """
    if getattr(backbone, 'rotary', False):
        raise ValueError(
            f'{type(backbone).__name__} turns queries and keys by rotary position embedding, which '
            'attention maps leave out: use a ViT with a learned position embedding'
        )
    attention = _last_attention(backbone)
    caught: list[Tensor] = []
    hook = attention.qkv.register_forward_hook(lambda *args: caught.append(args[-1]))
    try:
        (forward or backbone)(images)
    finally:
        hook.remove()
    if len(caught) != 1 or caught[0].ndim != 3:
        raise ValueError(
            f'the last attention layer of {type(backbone).__name__} did not give one (B, N, 3C) '
            'tensor of queries, keys and values: attention maps need a plain ViT'
        )
    projected = caught[0].to(torch.promote_types(caught[0].dtype, torch.float32))
    query, key, _ = projected.unflatten(2, (3, attention.num_heads, -1)).unbind(2)
    logits = torch.einsum('bhd,bnhd->bhn', query[:, 0], key) / math.sqrt(query.size(-1))
    extra_tokens = getattr(backbone, 'num_extra_tokens', 1) + getattr(backbone, 'num_registers', 0)
    patches = logits.softmax(dim=-1)[..., extra_tokens:]  # (B, heads, H / patch * W / patch)

    height, width = images.shape[-2:]
    patch = round(math.sqrt(height * width / patches.size(-1)))
    if extra_tokens < 1 or (height // patch) * (width // patch) != patches.size(-1):
        raise ValueError(
            f'{type(backbone).__name__} has {logits.size(-1)} tokens for an image of {height} x '
            f'{width}, which are not a [CLS] token and a grid of patches: use a ViT with a class '
            'token and images whose sides are multiples of the patch size'
        )
    return patches.unflatten(-1, (height // patch, width // patch))


def _last_attention(backbone: nn.Module) -> Any:
    found = [
        module
        for module in backbone.modules()
        if isinstance(getattr(module, 'qkv', None), nn.Linear) and hasattr(module, 'num_heads')
    ]
    if not found:
        raise ValueError(
            f'{type(backbone).__name__} has no attention layer with a linear layer qkv: attention '
            'maps need a ViT'
        )
    return found[-1]


def draw_attention(images: np.ndarray, attention: Tensor, per_head: bool = False) -> Figure:
    """Draw images beside their attention, averaged over heads and upsampled.

    Args:
        images: (B, H, W, 3) uint8 RGB.
        attention: (B, heads, h, w) from :func:`cls_attention`.
        per_head: Whether to add one map for each head. Defaults to False.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If the numbers of images and maps differ.
    """
    if len(images) != len(attention) or len(images) == 0:
        raise ValueError(f'got {len(images)} images and {len(attention)} attention maps')
    maps = attention.float().cpu()
    maps = torch.cat([maps.mean(dim=1, keepdim=True), maps], dim=1)
    maps = F.interpolate(maps, images.shape[1:3], mode='bilinear', align_corners=False)

    panels = 2 + (maps.size(1) - 1 if per_head else 0)  # of each image
    groups = 1 if per_head else min(PAIRS_PER_ROW, len(images))
    rows, columns = math.ceil(len(images) / groups), groups * panels
    aspect = images.shape[1] / images.shape[2]
    figure = Figure(
        figsize=(columns * CELL, rows * CELL * aspect + 0.3),  # 0.3 for the titles
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0),
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (image, image_maps) in enumerate(zip(images, maps, strict=True)):
        row, column = divmod(number, groups)
        cells = axes[row, column * panels : (column + 1) * panels]
        cells[0].imshow(image, interpolation='bilinear')
        cells[1].imshow(_overlay(image, image_maps[0].numpy()), interpolation='bilinear')
        for cell, head in zip(cells[2:], image_maps[1:], strict=False):
            cell.imshow(
                _stretch(head.numpy()), cmap='inferno', vmin=0, vmax=1, interpolation='bilinear'
            )
        if row == 0:
            titles = ['image', '[CLS] attention', *(f'head {i + 1}' for i in range(panels - 2))]
            for cell, title in zip(cells, titles, strict=True):
                cell.set_title(title, fontsize=9)
    return figure


def _stretch(values: np.ndarray) -> np.ndarray:
    """Spread values over [0, 1]; the highest percent is cut so that a lone peak hides nothing."""
    low, high = values.min(), np.quantile(values, 0.99)
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)


def _overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Color the attention over the dimmed gray image: no attention, no color."""
    strength = _stretch(values)[..., None]
    gray = 0.6 * (image / 255.0) @ np.array([0.299, 0.587, 0.114])
    color = matplotlib.colormaps['inferno'](0.35 + 0.65 * strength[..., 0])[..., :3]
    return (1 - 0.75 * strength) * gray[..., None] + 0.75 * strength * color


def save_attention(
    path: str | Path, images: np.ndarray, attention: Tensor, per_head: bool = False
) -> Path:
    """Write :func:`draw_attention`'s picture as a PNG and return its path; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_attention(images, attention, per_head).savefig(path, format='png', dpi=150)
    return path
