# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Random masks over a grid of patches.

``rng`` is numpy's global generator by default, so that a worker's seed decides; any object with
numpy's ``random`` and ``permutation`` will do.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

ASPECT_RATIO = (0.3, 1 / 0.3)
TRIES = 10


def sample_mask_ratio(pairs: Sequence[tuple[float, float]], rng: Any = np.random) -> float:
    """Draw the share of patches to mask in one view.

    Args:
        pairs: (mean, half_width) pairs; one is picked at random, and the ratio is uniform in
            mean ± half_width. ``[(0.0, 0.0), (0.3, 0.2)]``: half of the views have no mask, half
            10 % to 50 %.
        rng: Source of randomness. Defaults to numpy's global generator.

    Returns:
        The ratio, 0 to 1 for valid pairs.
    """
    pick, position = rng.random(2).tolist()
    mean, half_width = pairs[int(pick * len(pairs))]
    return mean + half_width * (2 * position - 1)


def block_mask(height: int, width: int, count: float, rng: Any = np.random) -> np.ndarray:
    """Mask rectangles until ``count`` patches are masked (BEiT, arXiv 2106.08254, algorithm 1).

    Rectangles have an aspect ratio of 0.3 to 1/0.3, log-uniform, and where the remaining count
    allows an area of at least ``(min(height, width) // 3) ** 2``. Each gets ten tries to add a
    patch without exceeding the count; when all fail, the mask stays as it is. A rectangle never
    spans the whole height or width, but may touch every border.

    Args:
        height: Of the grid, in patches.
        width: Of the grid, in patches.
        count: Number of patches to reach and never to exceed; need not be whole.
        rng: Source of randomness. Defaults to numpy's global generator.

    Returns:
        Bool (height, width), True where masked.
    """
    mask = np.zeros((height, width), dtype=bool)
    remaining = count
    while remaining > 0:
        added = _add_rectangle(mask, remaining, rng)
        if not added:
            break
        remaining -= added
    return mask


def random_mask(height: int, width: int, count: float, rng: Any = np.random) -> np.ndarray:
    """Mask ``int(count)`` patches anywhere.

    Args:
        height: Of the grid, in patches.
        width: Of the grid, in patches.
        count: Number of patches; its whole part counts.
        rng: Source of randomness. Defaults to numpy's global generator.

    Returns:
        Bool (height, width), True where masked.
    """
    mask = np.zeros(height * width, dtype=bool)
    mask[rng.permutation(height * width)[: int(count)]] = True
    return mask.reshape(height, width)


def _add_rectangle(mask: np.ndarray, limit: float, rng: Any) -> int:
    """Mask one more rectangle in place; returns how many patches that added, 0 after ten tries."""
    grid_height, grid_width = mask.shape
    smallest = (min(grid_height, grid_width) // 3) ** 2
    log_aspect = (math.log(ASPECT_RATIO[0]), math.log(ASPECT_RATIO[1]))
    for size, shape, down, right in rng.random((TRIES, 4)).tolist():
        area = smallest + (limit - smallest) * size  # limit may be the smaller one
        aspect = math.exp(log_aspect[0] + (log_aspect[1] - log_aspect[0]) * shape)
        height = round(math.sqrt(area * aspect))
        width = round(math.sqrt(area / aspect))
        if height >= grid_height or width >= grid_width:
            continue
        top = int(down * (grid_height - height + 1))
        left = int(right * (grid_width - width + 1))
        rectangle = mask[top : top + height, left : left + width]
        added = height * width - int(np.count_nonzero(rectangle))
        if 0 < added <= limit:
            rectangle[:] = True
            return added
    return 0
