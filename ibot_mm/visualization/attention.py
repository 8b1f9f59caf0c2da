# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pictures of where the [CLS] token of a ViT looks."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from ibot_mm.functional.attention_mass import most_attended, strongest_head

from .style import COLORS, HEAT, TEXT, picture_grid, save_figure, show_picture

COLUMNS = 6  # of several images side by side
MOST_COLUMNS = 8  # of one image, whose heads go on below
HEAD_COLORS = COLORS[:6]  # yellow and black are not seen in titles and on dark images
LEAST = 256  # pixels to which small images are enlarged beneath colors


def draw_attention(
    images: Sequence[np.ndarray] | np.ndarray,
    attention: Sequence[Tensor] | Tensor,
    per_head: bool = False,
    mass: float | None = None,
    registers: Mapping[str, Sequence[Tensor]] | None = None,
    title: str = '',
) -> Figure:
    """Draw images beside their attention, averaged over heads and upsampled.

    Args:
        images: uint8 RGB (H, W, 3) each, of any sizes, or (B, H, W, 3).
        attention: For each image (heads, h, w) from :func:`cls_attention`, or (B, heads, h, w).
        per_head: Whether to add one map for each head. Defaults to False.
        mass: Share of the attention whose patches are marked, see
            :func:`~ibot_mm.functional.attention_mass.most_attended`: adds a picture in which each
            patch has the color of the head that attends it most, and outlines these patches in
            the maps of the heads. Defaults to None, not marked.
        registers: Title -> such attention of registers, averaged over heads; one map more for
            each. Defaults to none.
        title: Of the figure. Defaults to none.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If the numbers of images and maps differ.
    """
    if len(images) != len(attention) or len(images) == 0:
        raise ValueError(f'got {len(images)} images and {len(attention)} attention maps')
    heads = len(attention[0]) if per_head else 0
    titles = ['image', '[CLS] attention']
    titles += [f'{mass:.0%} of it, by head'] if mass else []
    titles += [*(registers or {}), *(f'head {head + 1}' for head in range(heads))]
    lines = math.ceil(len(titles) / MOST_COLUMNS)  # of each image
    width = math.ceil(len(titles) / lines)
    groups = min(max(1, COLUMNS // width), len(images))
    aspects = [
        max(image.shape[0] / image.shape[1] for image in images[first : first + groups])
        for first in range(0, len(images), groups)
        for _ in range(lines)
    ]
    captions = len(aspects) if lines > 1 else 1
    figure, axes = picture_grid(aspects, groups * width, title, captions=captions)
    for number, (image, maps) in enumerate(zip(images, attention, strict=True)):
        row, column = divmod(number, groups)
        block = axes[row * lines : (row + 1) * lines, column * width : (column + 1) * width]
        cells = list(block.flat)[: len(titles)]
        if row == 0 or lines > 1:
            for cell, text in zip(cells, titles):
                cell.set_title(text, fontsize=TEXT)
            for head, cell in zip(range(heads if mass else 0), cells[len(titles) - heads :]):
                cell.title.set_color(HEAD_COLORS[head % len(HEAD_COLORS)])
        maps = maps.float().cpu()
        smooth = enlarge(torch.cat([maps.mean(dim=0, keepdim=True), maps]), image.shape[:2])
        show_picture(cells.pop(0), image)
        show_picture(cells.pop(0), overlay(image, smooth[0]))
        if mass:
            colored = color_by_head(enlarge_small(image), maps, mass)
            show_picture(cells.pop(0), colored, interpolation='nearest')
        for of_images in (registers or {}).values():
            of_register = enlarge(
                of_images[number].float().cpu().mean(dim=0)[None], image.shape[:2]
            )
            show_picture(cells.pop(0), overlay(image, of_register[0]))
        for cell, head, values in zip(cells, smooth[1:], maps):
            show_picture(cell, stretch(head), cmap=HEAT, vmin=0, vmax=1)
            if mass:
                _outline(cell, most_attended(values.flatten(), mass).view(values.shape), image)
    return figure


def _outline(cell: Any, kept: Tensor, image: np.ndarray) -> None:
    """Draw a line around kept patches."""
    mask = enlarge(kept[None].float(), image.shape[:2], 'nearest')[0]
    if mask.min() < mask.max():
        cell.contour(mask, levels=[0.5], colors=[COLORS[5]], linewidths=0.8)


def enlarge(maps: Tensor, size: Sequence[int], mode: str = 'bilinear') -> np.ndarray:
    """Enlarge maps (M, h, w) to an image's size (H, W), as an array."""
    corners = None if mode == 'nearest' else False
    return F.interpolate(maps[None], tuple(size), mode=mode, align_corners=corners)[0].numpy()


def enlarge_small(image: np.ndarray) -> np.ndarray:
    """Enlarge a uint8 image (H, W, 3) of less than 256 pixels, so that it stays smooth."""
    times = -(-LEAST // min(image.shape[:2]))
    if times == 1:
        return image
    size = (image.shape[1] * times, image.shape[0] * times)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))


def stretch(values: np.ndarray) -> np.ndarray:
    """Spread values over [0, 1]; the highest percent is cut so that a lone peak hides nothing."""
    low, high = values.min(), np.quantile(values, 0.99)
    return np.clip((values - low) / max(high - low, 1e-12), 0, 1)


def dim(image: np.ndarray, brightness: float = 0.6) -> np.ndarray:
    """Make a uint8 image (H, W, 3) gray and dark, floats in 0 to 1, so that colors stand out."""
    gray = brightness * (image / 255.0) @ np.array([0.299, 0.587, 0.114])
    return np.repeat(gray[..., None], 3, axis=2)


def overlay(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Color values (H, W) over the dimmed gray image: the lowest value has no color."""
    strength = stretch(values)[..., None]
    color = matplotlib.colormaps[HEAT](0.35 + 0.65 * strength[..., 0])[..., :3]
    return (1 - 0.75 * strength) * dim(image) + 0.75 * strength * color


def color_by_head(image: np.ndarray, attention: Tensor, mass: float) -> np.ndarray:
    """Color, over the dimmed gray image, the patches that heads attend by the strongest head.

    Args:
        image: uint8 (H, W, 3).
        attention: Shape (heads, h, w).
        mass: Share of each head's attention that its patches hold.

    Returns:
        Floats in 0 to 1, (H, W, 3).
    """
    heads = strongest_head(attention.flatten(1), mass).view(attention.shape[1:])
    heads = enlarge(heads[None].float(), image.shape[:2], 'nearest')[0].astype(int)
    palette = np.array([to_rgb(color) for color in HEAD_COLORS])
    gray = dim(image)
    colors = palette[heads % len(palette)]
    return np.where((heads >= 0)[..., None], 0.35 * gray + 0.65 * colors, gray)


def save_attention(path: str | Path, *args: Any, **kwargs: Any) -> Path:
    """Write :func:`draw_attention`'s picture as a PNG and return its path; folders are made."""
    return save_figure(draw_attention(*args, **kwargs), path)
