# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Scores of video object segmentation: J (region) and F (boundary) of DAVIS (arXiv 1704.00675)."""

import math

import cv2
import numpy as np

BOUNDARY_TOLERANCE = 0.008  # of the diagonal


def region_similarity(mask: np.ndarray, truth: np.ndarray) -> float:
    """Compute J, the intersection over union of two masks, bool (H, W); 1 where both are empty."""
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def boundary_accuracy(
    mask: np.ndarray, truth: np.ndarray, tolerance: float = BOUNDARY_TOLERANCE
) -> float:
    """Compute F, the F-measure of boundary pixels that have one of the other mask nearby.

    Args:
        mask: Predicted, bool (H, W).
        truth: Annotated, bool (H, W).
        tolerance: Share of the diagonal, rounded up to pixels, that counts as near. Defaults to
            0.008.

    Returns:
        A share; 1 where neither mask has a boundary, 0 where one of them has none.
    """
    radius = math.ceil(tolerance * math.hypot(*mask.shape))
    grid = np.arange(-radius, radius + 1)
    disk = (grid[:, None] ** 2 + grid**2 <= radius**2).astype(np.uint8)
    boundaries = [mask_boundary(array) for array in (mask, truth)]
    numbers = [int(np.count_nonzero(boundary)) for boundary in boundaries]
    if 0 in numbers:
        return float(numbers == [0, 0])
    near = [cv2.dilate(boundary.astype(np.uint8), disk) > 0 for boundary in boundaries]
    precision = np.count_nonzero(boundaries[0] & near[1]) / numbers[0]
    recall = np.count_nonzero(boundaries[1] & near[0]) / numbers[1]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mask_boundary(mask: np.ndarray) -> np.ndarray:
    """Find the pixels (H, W) that differ from the next one to the right, below, or both."""
    below, right, across = (mask.copy() for _ in range(3))
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    across[:-1, :-1] = mask[1:, 1:]
    # At the last row and column there is one neighbor, and none at the last pixel.
    across[-1], across[:, -1] = right[-1], below[:, -1]
    return (mask ^ right) | (mask ^ below) | (mask ^ across)


def mean_recall_decay(scores: np.ndarray) -> tuple[float, float, float]:
    """Sum the scores of an object's frames up.

    Args:
        scores: J or F of each scored frame, in order.

    Returns:
        Mean; recall, the share of frames above 0.5; decay, the mean of the first quarter less that
        of the last. Quarters have both ends in common, as in DAVIS's own evaluation.
    """
    bounds = np.round(np.linspace(1, len(scores), 5) + 1e-10).astype(int) - 1
    first, last = scores[: bounds[1] + 1], scores[bounds[3] :]
    decay = float(first.mean() - last.mean())
    return float(scores.mean()), float((scores > 0.5).mean()), decay


def score_frame(
    mask: np.ndarray,
    truth: np.ndarray,
    num_objects: int,
    tolerance: float = BOUNDARY_TOLERANCE,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute J and F of each object in a frame.

    Args:
        mask: Predicted labels (H, W), 0 the background.
        truth: Annotated ones; where they are 255, nothing counts.
        num_objects: Objects are 1 to this number.
        tolerance: Of the boundary. Defaults to 0.008.

    Returns:
        J (num_objects,) and F (num_objects,).
    """
    known = truth != 255
    scores = [
        (
            region_similarity((mask == label) & known, truth == label),
            boundary_accuracy((mask == label) & known, truth == label, tolerance),
        )
        for label in range(1, num_objects + 1)
    ]
    region, boundary = np.array(scores, dtype=np.float64).reshape(num_objects, 2).T
    return region, boundary
