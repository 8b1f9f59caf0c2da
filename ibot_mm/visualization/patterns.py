# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pattern layout: what the prototypes of a projection head stand for (paper, section 4.3)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ibot_mm.functional.patterns import assign_prototypes, best_members, largest_prototypes

from .network import PictureNetwork, figure_title, patch_stride, read_tokens
from .picture import Picture
from .style import picture_grid, show_picture

TOKENS = ('patch', 'cls')
BRIGHTNESS = 40  # of 255: darker contexts show nothing
GAP = 2  # pixels between pictures
FRAME = np.array([86, 180, 233], dtype=np.uint8)  # color of the patch in its context


@dataclass(frozen=True)
class Pattern:
    """A prototype and where it is found.

    Args:
        prototype: Its number.
        count: Tokens of all pictures that chose it.
        members: (picture, row, column) of its best tokens, best first.
        pictures: What shows each of them, uint8 (h, w, 3).
    """

    prototype: int
    count: int
    members: list[tuple[int, int, int]]
    pictures: list[np.ndarray]


def find_patterns(
    network: PictureNetwork,
    pictures: Sequence[Picture],
    token: str = 'patch',
    num_prototypes: int = 20,
    num_members: int = 36,
    context: int = 5,
) -> list[Pattern]:
    """Find the prototypes that most tokens choose, and their best members.

    As published: of each picture only its best member; twice as many candidates as shown, of which
    those with dark context are dropped.

    Args:
        network: With a projection head.
        pictures: Of one size; read twice, once for the tokens and once for what is shown.
        token: 'patch' or 'cls'. Defaults to 'patch'.
        num_prototypes: At most so many. Defaults to 20.
        num_members: At most so many of each. Defaults to 36.
        context: Patches on the side of what is shown around a patch. Defaults to 5.

    Raises:
        ValueError: If the network has no projection head, or an option is out of range.
    """
    if network.neck is None:
        raise ValueError(
            f'{network.origin or network.name} has no projection head, whose prototypes patterns '
            'are: give the checkpoint of a training, not a published backbone alone'
        )
    if token not in TOKENS:
        raise ValueError(f'token must be one of {TOKENS}, got {token!r}')
    options = dict(num_prototypes=num_prototypes, num_members=num_members, context=context)
    for name, value in options.items():
        if value < 1:
            raise ValueError(f'{name} must be at least 1, got {value}')
    largest, chosen, grid, number = _assign(network, pictures, token)
    patterns = []
    for prototype in largest_prototypes(chosen, number, num_prototypes).tolist():
        candidates = num_members * (2 if token == 'patch' else 1)
        images, places = best_members(largest, chosen, prototype, candidates)
        members, shown = [], []
        for image, place in zip(images.tolist(), places.tolist()):
            row, column = divmod(place, grid[1])
            picture = pictures[image].crop_to_grid(patch_stride(network.backbone))
            pixels = picture.pixels
            if token == 'patch':
                pixels = _context(pixels, (row, column), grid, context)
                if pixels.max(axis=2).mean() <= BRIGHTNESS:  # the value of HSV
                    continue
            members.append((image, row, column))
            shown.append(pixels)
            if len(members) == num_members:
                break
        count = int((chosen == prototype).sum())
        patterns.append(Pattern(prototype, count, members, shown))
    return patterns


@torch.no_grad()
def _assign(
    network: PictureNetwork, pictures: Sequence[Picture], token: str
) -> tuple[Tensor, Tensor, tuple[int, int], int]:
    """Largest logits and their prototypes (B, N), the grid of tokens, and the number of K."""
    largest, chosen, grids, number = [], [], set(), 0
    neck = network.neck
    device = next(neck.parameters()).device
    for tokens in read_tokens(network, pictures):
        grid = (tokens.patches.shape[0], tokens.patches.shape[1])
        grids.add(grid)
        of_picture = torch.cat([tokens.cls[None], tokens.patches.flatten(0, 1)])
        cls, patches = neck(of_picture[None].to(device))
        logits = (cls[:, None] if token == 'cls' else patches)[0].float().cpu()
        value, prototype = assign_prototypes(logits)
        largest.append(value)
        chosen.append(prototype)
        number = logits.shape[-1]
    if len(grids) != 1:
        raise ValueError(
            f'patterns need pictures of one size, got {len(grids)} grids of patches'
            if grids
            else 'no pictures to look for patterns in'
        )
    return torch.stack(largest), torch.stack(chosen), grids.pop(), number


def _context(
    pixels: np.ndarray, place: tuple[int, int], grid: tuple[int, int], context: int
) -> np.ndarray:
    """Cut a patch with what is around it, shifted at the border, and frame the patch."""
    steps = [side // cells for side, cells in zip(pixels.shape, grid)]
    sides = [min(context, cells) for cells in grid]
    first = [
        min(max(at - side // 2, 0), cells - side) for at, side, cells in zip(place, sides, grid)
    ]
    (top, left), (height, width) = (
        [a * step for a, step in zip(first, steps)],
        [side * step for side, step in zip(sides, steps)],
    )
    part = pixels[top : top + height, left : left + width].copy()
    corner = [(at - start) * step for at, start, step in zip(place, first, steps)]
    return _frame(part, corner, steps)


def _frame(part: np.ndarray, corner: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """Enlarge small contexts, so that a line around the patch does not hide it."""
    times = max(1, round(96 / part.shape[0]))
    part = np.ascontiguousarray(part.repeat(times, axis=0).repeat(times, axis=1))
    (top, left), (height, width) = ([v * times for v in corner], [v * times for v in steps])
    color = tuple(int(v) for v in FRAME)
    cv2.rectangle(part, (left, top), (left + width - 1, top + height - 1), color, 2)
    return part


def draw_patterns(
    network: PictureNetwork, patterns: Sequence[Pattern], token: str = 'patch'
) -> Figure:
    """Draw one block of pictures for each prototype.

    Args:
        network: For the title.
        patterns: From :func:`find_patterns`.
        token: Which they are of. Defaults to 'patch'.

    Returns:
        A matplotlib figure.

    Raises:
        ValueError: If no pattern has anything to show.
    """
    shown = [pattern for pattern in patterns if pattern.pictures]
    if not shown:
        raise ValueError('no pattern to draw: all pictures are too dark')
    columns = min(5, len(shown))
    side = math.ceil(math.sqrt(max(len(pattern.pictures) for pattern in shown)))
    blocks = [_mosaic(pattern.pictures, side) for pattern in shown]
    rows = -(-len(blocks) // columns)
    aspect = max(block.shape[0] / block.shape[1] for block in blocks)
    named = 'patches (framed, in their context)' if token == 'patch' else '[CLS] tokens'
    title = figure_title(network, f'best {named} of the most chosen prototypes')
    cell = max(2.0, 0.36 * side)
    figure, axes = picture_grid([aspect] * rows, columns, title, cell=cell, captions=rows)
    for axis, pattern, block in zip(axes.flat, shown, blocks):
        show_picture(axis, block, f'{pattern.prototype}: {pattern.count} chose it')
    return figure


def _mosaic(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Put pictures of one size into a square, white where there are too few."""
    size = 96
    height, width = (round(size * s / max(pictures[0].shape[:2])) for s in pictures[0].shape[:2])
    rows = -(-len(pictures) // side)
    canvas = np.full((rows * (height + GAP) - GAP, side * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (number // side) * (height + GAP), (number % side) * (width + GAP)
        smaller = picture.shape[0] > height
        resized = cv2.resize(
            np.ascontiguousarray(picture),
            (width, height),
            interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC,
        )
        canvas[top : top + height, left : left + width] = resized
    return canvas
