# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Similarity of chosen patches to all patches."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .network import PictureNetwork, figure_title, read_tokens
from .picture import Picture
from .style import COLORS, HEAT, SMALL, TEXT, picture_grid, show_picture

Point = tuple[float, float]


def grid_points(picture: Picture, number: int = 3) -> list[Point]:
    """Return the centers of a grid of ``number`` x ``number`` cells, (x, y) in pixels of the file.

    Raises:
        ValueError: If ``number`` is less than 1.
    """
    if number < 1:
        raise ValueError(f'a grid of points needs at least 1 on a side, got {number}')
    steps = [(step + 0.5) / number for step in range(number)]
    (height, width), (top, left), (down, right) = picture.size, picture.offset, picture.scale
    return [
        ((x * width + left) / right - 0.5, (y * height + top) / down - 0.5)
        for y in steps
        for x in steps
    ]


def patch_at(picture: Picture, point: Point, grid: Sequence[int]) -> tuple[int, int]:
    """Return row and column of the patch that shows a pixel of the file.

    Args:
        picture: Cut to whole patches.
        point: (x, y).
        grid: Rows and columns of patches.

    Raises:
        ValueError: If the point is outside of what is shown.
    """
    x, y = picture.locate(*point)
    height, width = picture.size
    return int(y / height * grid[0]), int(x / width * grid[1])


def similarity_maps(query: Tensor, patches: Tensor) -> Tensor:
    """Compute the cosine of one token (D,) and patches (h, w, D): (h, w)."""
    return F.normalize(patches.double(), dim=-1) @ F.normalize(query.double(), dim=0)


def draw_similarity(
    network: PictureNetwork,
    pictures: Iterable[Picture],
    points: Sequence[Point] | None = None,
    layer: int | None = None,
    grid: int = 3,
) -> Figure:
    """Draw how similar the patches of all pictures are to chosen patches of the first.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        pictures: Of any sizes; points are on the first.
        points: (x, y) in pixels of the first picture's file. Defaults to None, a grid.
        layer: Counted from 1. Defaults to None, the last.
        grid: Points on each side, where none are given. Defaults to 3.

    Returns:
        A matplotlib figure: one column a point, one row a picture. Colors go from the lowest to
        the highest cosine of each point.

    Raises:
        ValueError: If there are no pictures, or a point is outside of the first.
    """
    described = list(read_tokens(network, pictures, layer))
    if not described:
        raise ValueError('no pictures to draw')
    first = described[0]
    points = grid_points(first.picture, grid) if points is None else list(points)
    places = [patch_at(first.picture, point, first.patches.shape[:2]) for point in points]
    maps = [
        [similarity_maps(first.patches[place], tokens.patches) for tokens in described]
        for place in places
    ]
    sizes = [tokens.picture.size for tokens in described]
    title = figure_title(network, 'cosine similarity to the patch at the cross', layer)
    per_row = min(len(points), 5 if len(described) == 1 else 9)
    if len(described) > 1 and len(points) > per_row:
        raise ValueError(f'at most {per_row} points for several pictures, got {len(points)}')
    blocks = -(-len(points) // per_row)
    aspects = [height / width for height, width in sizes] * blocks
    rows = len(described)
    figure, axes = picture_grid(aspects, 1 + per_row, title, captions=blocks)
    for row, tokens in enumerate(described):
        show_picture(axes[row, 0], tokens.picture.pixels)
    for number, of_point in enumerate(maps):
        block, column = divmod(number, per_row)
        together = torch.cat([values.flatten() for values in of_point])
        low, high = float(together.min()), float(together.max())
        for row, values in enumerate(of_point):
            axis = axes[block * rows + row, 1 + column]
            height, width = sizes[row]
            options = dict(cmap=HEAT, vmin=low, vmax=high, extent=(0, width, height, 0))
            title = '' if row else f'{number + 1}: {low:.2f} to {high:.2f}'
            show_picture(axis, values.numpy(), title, interpolation='nearest', **options)
        _mark(axes[block * rows, 1 + column], places[number], first.patches.shape, sizes[0])
        _mark(axes[0, 0], places[number], first.patches.shape, sizes[0], str(number + 1))
    axes[0, 0].set_title('image', fontsize=TEXT)
    return figure


def _mark(
    axis: Axes, place: Sequence[int], grid: Sequence[int], size: Sequence[int], text: str = ''
) -> None:
    """Draw a cross at the center of a patch, or its number."""
    y, x = ((at + 0.5) / cells * side for at, cells, side in zip(place, grid, size))
    if text:
        box = dict(boxstyle='circle,pad=0.15', facecolor='white', edgecolor='none', alpha=0.8)
        axis.text(x, y, text, fontsize=SMALL, ha='center', va='center', bbox=box)
    else:
        axis.plot(x, y, marker='x', color=COLORS[5], markersize=6, markeredgewidth=2)
