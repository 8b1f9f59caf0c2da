# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Values of each channel of a set of images, for its range and its normalization."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from mmengine import fileio

from .transforms.load_image import LoadImage
from .transforms.read_channels import read_channels

PERCENTILES = (0, 1, 50, 99, 100)
LOOKED_AT = 10_000  # values of a channel in an image, spread over it, of which percentiles are


@dataclass(frozen=True)
class ChannelStatistics:
    """What the pixels of all images of a set have shown, one number for each channel.

    Args:
        num_images: Of the set.
        mean: Of 0 to 255.
        std: Deviation of 0 to 255, over all pixels of all images.
        lowest: Share of the values that became 0.
        highest: Share of the values that became 255.
    """

    num_images: int
    mean: list[float]
    std: list[float]
    lowest: list[float]
    highest: list[float]


def measure_channels(paths: Iterable[str], load: LoadImage) -> ChannelStatistics:
    """Measure images as a training reads them.

    Args:
        paths: Of the images.
        load: How they are read; of one set all must have the same channels.

    Raises:
        RuntimeError: An image cannot be read so.
        ValueError: No image is given.
    """
    number, pixels = 0, 0
    total, squares, lowest, highest = (np.zeros(1) for _ in range(4))
    for path in paths:
        image = (load(dict(img_path=path)) or {})['img']
        values = image.reshape(-1, image.shape[-1]).astype(np.float64)
        total = total + values.sum(0)
        squares = squares + (values**2).sum(0)
        lowest = lowest + (values == 0).sum(0)
        highest = highest + (values == 255).sum(0)
        number, pixels = number + 1, pixels + len(values)
    if not number:
        raise ValueError('there are no images to measure')
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    parts = (mean, std, lowest / pixels, highest / pixels)
    return ChannelStatistics(number, *(part.tolist() for part in parts))


def stored_percentiles(paths: Iterable[str], load: LoadImage) -> np.ndarray:
    """Measure values as they are stored, from which a range can be chosen.

    Args:
        paths: Of the images.
        load: Which channels are read; its range does not matter.

    Returns:
        ``PERCENTILES`` of each channel, (5, C); those of all images' spread values.

    Raises:
        RuntimeError: An image cannot be read.
        ValueError: No image is given, or ``load`` reads RGB.
    """
    if load.channels is None:
        raise ValueError('stored values are of channels: give LoadImage(channels=...)')
    parts = []
    for path in paths:
        content = fileio.get(path, backend_args=load.backend_args)
        pixels = read_channels(content, load.channels, load.channel_axis)
        values = pixels.reshape(-1, pixels.shape[2])
        parts.append(values[:: max(len(values) // LOOKED_AT, 1)].astype(np.float64))
    if not parts:
        raise ValueError('there are no images to measure')
    percentiles: np.ndarray = np.nanpercentile(np.concatenate(parts), PERCENTILES, axis=0)
    return percentiles
