# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How all figures of the package look: sizes, fonts, colors, titles."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Of Okabe and Ito, which color-blind people can tell apart.
COLORS = (
    *('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#f0e442', '#000000'),
)
RIGHT, WRONG = COLORS[0], COLORS[1]
HEAT = 'inferno'  # of attention and similarity: light is much, also in gray
TITLE, TEXT, SMALL = 11, 9, 8  # points
DPI = 150
CELL = 1.9  # inches of a picture
TITLE_HEIGHT = 0.3  # inches of a line of titles


def new_figure(width: float, height: float, title: str = '') -> Figure:
    """Make a figure that lays itself out.

    Args:
        width: Inches.
        height: Inches, without the title's.
        title: Above all, at the left, broken into lines where it is too long. Defaults to none.
    """
    lines = textwrap.wrap(title, max(20, int(width * 13)))
    figure = Figure(figsize=(width, height + 0.22 * len(lines)), layout='constrained')
    FigureCanvasAgg(figure)
    if lines:
        figure.suptitle('\n'.join(lines), x=0.01, ha='left', fontsize=TITLE)
    return figure


def picture_grid(
    aspects: Sequence[float], columns: int, title: str = '', cell: float = CELL, captions: int = 1
) -> tuple[Figure, np.ndarray]:
    """Make a figure of pictures, without axes, as close as they can be.

    Args:
        aspects: Height / width of the highest picture in each row.
        columns: Pictures in a row.
        title: See :func:`new_figure`. Defaults to none.
        cell: Width of a picture in inches. Defaults to 1.9.
        captions: Rows of pictures that have a line of text above. Defaults to 1, the first.

    Returns:
        The figure and its axes (rows, columns).
    """
    height = sum(aspects) * cell + captions * TITLE_HEIGHT
    figure = new_figure(columns * cell, height, title)
    figure.set_layout_engine(ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, wspace=0, hspace=0))
    heights: Any = dict(height_ratios=list(aspects))
    axes = figure.subplots(len(aspects), columns, squeeze=False, gridspec_kw=heights)
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_anchor('N')
    return figure, axes


def show_picture(axis: Axes, picture: np.ndarray, title: str = '', **options: Any) -> None:
    """Show a picture, with a small title above.

    Args:
        axis: Where.
        picture: uint8 (H, W, 3), floats in 0 to 1, or values (H, W) for a color map.
        title: Defaults to none.
        **options: Of ``Axes.imshow``. ``interpolation`` defaults to 'bilinear'.
    """
    axis.imshow(picture, **(dict(interpolation='bilinear') | options))
    if title:
        axis.set_title(title, fontsize=TEXT)


def tidy_axes(axis: Axes, grid: str = 'y') -> None:
    """Leave of a plot's frame what is read: left and bottom, and light lines behind.

    Args:
        axis: Of a plot.
        grid: 'x' or 'y', the axis whose values have lines. Defaults to 'y'.
    """
    axis.spines[['top', 'right']].set_visible(False)
    axis.grid(axis=grid, color='0.9')  # type: ignore[arg-type]
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=TEXT)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as a PNG and return its path; folders are made.

    Args:
        figure: A matplotlib figure.
        path: Of the PNG.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format='png', dpi=DPI)
    return path
