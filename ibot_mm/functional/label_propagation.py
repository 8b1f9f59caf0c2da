# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Labels carried from frame to frame by the similarity of patches (``eval_video_segmentation``)."""

from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

TILE = 13  # rows and columns of target patches that look at one window of the sources


class LabelPropagation:
    """Soft labels of a video's patches, frame by frame.

    Sources are the first frame, always, and the last predicted ones, so that memory does not grow
    with the video.

    Args:
        first: Patch tokens (h, w, D) of the first frame.
        labels: Soft labels (C, h, w) of the first frame.
        num_last_frames: Predicted frames that are sources. Defaults to 7.
        radius: Sources lie at most so many patches away, in rows and in columns; 0 for no limit.
            Defaults to 12.
        topk: Most similar sources of a patch that count; ties with the last of them stay.
            Defaults to 5.
        temperature: Of the similarities. Defaults to 0.1.
    """

    def __init__(
        self,
        first: Tensor,
        labels: Tensor,
        num_last_frames: int = 7,
        radius: int = 12,
        topk: int = 5,
        temperature: float = 0.1,
    ) -> None:
        self.radius, self.topk, self.temperature = radius, topk, temperature
        self._first = F.normalize(first, dim=-1), labels.to(first)
        self._last: deque[tuple[Tensor, Tensor]] = deque(maxlen=num_last_frames)

    def step(self, tokens: Tensor) -> Tensor:
        """Predict the soft labels (C, h, w) of the next frame from its tokens (h, w, D)."""
        target = F.normalize(tokens, dim=-1)
        sources, labels = zip(self._first, *self._last)
        predicted = propagate_labels(
            target,
            torch.stack(sources),
            torch.stack(labels),
            self.radius,
            self.topk,
            self.temperature,
        )
        self._last.append((target, predicted))
        return predicted


def propagate_labels(
    target: Tensor,
    sources: Tensor,
    labels: Tensor,
    radius: int,
    topk: int,
    temperature: float,
) -> Tensor:
    """Average the labels of each patch's most similar sources, weighted by exp(dot / temperature).

    Only what lies in the window around a tile of patches is compared at all.

    Args:
        target: Patch tokens (h, w, D) of length 1.
        sources: Of the S source frames, (S, h, w, D), of length 1.
        labels: Soft labels of the sources, (S, C, h, w).
        radius: Of the window, see :class:`LabelPropagation`.
        topk: See there.
        temperature: See there.

    Returns:
        Soft labels (C, h, w).
    """
    height, width, _ = target.shape
    radius = radius or max(height, width)
    predicted = labels.new_empty(labels.shape[1:])
    for rows, near_rows in _windows(height, radius):
        for columns, near_columns in _windows(width, radius):
            queries = target[rows, columns]
            keys = sources[:, near_rows, near_columns].flatten(0, 2)
            similarity = queries.flatten(0, 1) @ keys.T  # (T, S * n)
            far_rows = _far(rows, near_rows, radius, target.device)
            far_columns = _far(columns, near_columns, radius, target.device)
            far = far_rows[:, None, :, None] | far_columns[None, :, None, :]  # (t, u, m, n)
            by_frame = similarity.unflatten(1, (len(sources), -1))
            by_frame.masked_fill_(far.flatten(2).flatten(0, 1)[:, None], -torch.inf)
            known = labels[:, :, near_rows, near_columns].transpose(0, 1).flatten(1)  # (C, S * n)
            averaged = _average(similarity, known.T, topk, temperature)  # (T, C)
            predicted[:, rows, columns] = averaged.T.unflatten(1, queries.shape[:2])
    return predicted


def _average(similarity: Tensor, labels: Tensor, topk: int, temperature: float) -> Tensor:
    """Average labels (N, C) by the largest similarities of each row (T, N), and ties with them."""
    values, places = similarity.topk(min(topk + 1, similarity.shape[1]))
    largest, last = values[:, :1], values[:, :topk][:, -1:]
    tied = (values[:, topk:] == last) & last.isfinite()
    if tied.any():
        weights = ((similarity - largest) / temperature).exp()
        weights = weights.masked_fill_(similarity < last, 0)
        return weights @ labels / weights.sum(dim=1, keepdim=True)
    weights = ((values[:, :topk] - largest) / temperature).exp()
    summed = torch.einsum('tk,tkc->tc', weights, labels[places[:, :topk]])
    return summed / weights.sum(dim=1, keepdim=True)


def _windows(side: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Yield the tiles of a side, and for each the sources within the radius of some of it."""
    for start in range(0, side, TILE):
        stop = min(start + TILE, side)
        yield slice(start, stop), slice(max(0, start - radius), min(side, stop + radius))


def _far(places: slice, sources: slice, radius: int, device: torch.device) -> Tensor:
    """Whether sources are farther away than the radius, (places, sources)."""
    near, other = (torch.arange(p.start, p.stop, device=device) for p in (places, sources))
    return (near[:, None] - other).abs() > radius


def labels_on_grid(mask: np.ndarray, grid: tuple[int, int]) -> Tensor:
    """Bring a mask to the grid of patches, as published.

    Args:
        mask: Labels (H, W), uint8; 0 is the background.
        grid: Rows and columns of patches; each takes the label of its nearest pixel (Pillow's).

    Returns:
        One-hot, float32 (C, h, w). There are as many channels as the highest label left on the
        grid, and the background.
    """
    small = np.array(Image.fromarray(mask).resize(grid[::-1], Image.Resampling.NEAREST))
    return F.one_hot(torch.from_numpy(small.astype(np.int64))).permute(2, 0, 1).float()


def enlarge_labels(soft: Tensor, input_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Make soft labels of patches a mask, as published.

    Args:
        soft: Shape (C, h, w).
        input_size: Height and width of the network's input, which the soft labels are enlarged to,
            bilinearly. There each channel is spread over [0, 1] by itself, but for those without a
            value above 0.
        size: Height and width of the frame; the labels are resized to it by nearest pixels.

    Returns:
        Labels (H, W), uint8.
    """
    large = F.interpolate(soft[None], input_size, mode='bilinear', align_corners=False)[0]
    lowest = large.amin(dim=(1, 2), keepdim=True)
    there = large.amax(dim=(1, 2), keepdim=True) > 0
    spread = torch.where(there, large - lowest, large)
    highest = spread.amax(dim=(1, 2), keepdim=True)
    spread = torch.where(there, spread / highest, spread)
    labels = spread.max(dim=0).indices.to(torch.uint8).cpu().numpy()
    return np.array(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))
