# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Principal components of patch tokens as colors, the same for several pictures."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ibot_mm.functional.principal_components import find_foreground, principal_axes, to_colors

from .attention import dim, enlarge, enlarge_small
from .network import PictureNetwork, figure_title, read_tokens
from .picture import Picture
from .style import picture_grid, show_picture

PAIRS_PER_ROW = 3


@dataclass(frozen=True)
class PatchColors:
    """Colors of patches by their principal components.

    Args:
        colors: Floats in 0 to 1, (h, w, 3) of each picture.
        foreground: True at the foreground, (h, w) of each picture.
        shares: Of the variance, along each component.
    """

    colors: list[Tensor]
    foreground: list[Tensor]
    shares: Tensor


def color_patches(
    patches: list[Tensor], foreground: bool = True, invert: bool = False
) -> PatchColors:
    """Give patches a color by their first three principal components.

    Axes and scale are those of all pictures together. With ``foreground``, a first analysis splits
    the patches by its first component, and the colors are of a second one of the foreground.

    Args:
        patches: Tokens (h, w, D) of each picture.
        foreground: Defaults to True.
        invert: Whether to take the other side of the first component for the foreground.
            Defaults to False.

    Raises:
        ValueError: If there are too few patches.
    """
    flat = [tokens.flatten(0, 1).double() for tokens in patches]
    masks = [torch.ones(tokens.shape[:2], dtype=torch.bool) for tokens in patches]
    if foreground:
        mean, axes, _ = principal_axes(torch.cat(flat), 1)
        scores = [((tokens.double() - mean) @ axes)[..., 0] for tokens in patches]
        masks = find_foreground(scores, invert)
    chosen = [tokens[mask.flatten()] for tokens, mask in zip(flat, masks)]
    mean, axes, shares = principal_axes(torch.cat(chosen))
    colors = []
    for of_chosen, mask in zip(to_colors([(t - mean) @ axes for t in chosen]), masks):
        full = torch.zeros(*mask.shape, 3, dtype=torch.float64)
        full[mask] = of_chosen
        colors.append(full)
    return PatchColors(colors, masks, shares)


def draw_pca(
    network: PictureNetwork,
    pictures: Iterable[Picture],
    foreground: bool = True,
    invert: bool = False,
    layer: int | None = None,
) -> Figure:
    """Draw pictures beside their patches, colored by principal components.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        pictures: Of any sizes.
        foreground: See :func:`color_patches`; the background is the picture, gray and dark.
            Defaults to True.
        invert: See :func:`color_patches`. Defaults to False.
        layer: Counted from 1. Defaults to None, the last.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If there are no pictures or too few patches.
    """
    described = list(read_tokens(network, pictures, layer))
    if not described:
        raise ValueError('no pictures to draw')
    found = color_patches([tokens.patches for tokens in described], foreground, invert)
    shares = ', '.join(f'{share:.0%}' for share in found.shares)
    what = f'PCA of {"foreground" if foreground else "all"} patches ({shares} of the variance)'

    groups = min(PAIRS_PER_ROW, len(described))
    rows = math.ceil(len(described) / groups)
    sizes = [tokens.picture.size for tokens in described]
    aspects = [
        max(height / width for height, width in sizes[row * groups : (row + 1) * groups])
        for row in range(rows)
    ]
    figure, axes = picture_grid(aspects, 2 * groups, figure_title(network, what, layer))
    for number, (tokens, colors, mask) in enumerate(
        zip(described, found.colors, found.foreground, strict=True)
    ):
        row, column = divmod(number, groups)
        pixels = enlarge_small(tokens.picture.pixels)
        shown = enlarge(colors.permute(2, 0, 1), pixels.shape[:2], 'nearest').transpose(1, 2, 0)
        kept = enlarge(mask[None].double(), pixels.shape[:2], 'nearest')[0] > 0
        shown = np.where(kept[..., None], shown, dim(pixels, 0.35))
        show_picture(axes[row, 2 * column], pixels, '' if row else 'image')
        show_picture(
            axes[row, 2 * column + 1], shown, '' if row else 'PCA', interpolation='nearest'
        )
    return figure
