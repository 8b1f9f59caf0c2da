# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A look at a few images: whether they hold what the config says of them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

LOOKED_AT = 8  # images
MIDDLE = (1, 99)  # percentiles
LEAST_SPREAD = 2  # levels, of 256, that the middle values must span


def check_pixels(path: str, load: Any, images: Sequence[str]) -> Iterator[str]:
    """Read the first images of a data set of other channels or more bits than usual.

    Args:
        path: Key of the loading transform in the config.
        load: The transform, :class:`ibot_mm.LoadImage`.
        images: Paths of some images.

    Yields:
        What reading one of them says; that a range leaves nothing of their values.
    """
    pixel_range = load.pixel_range
    if load.channels is None and not pixel_range.pairs:
        return
    try:
        loaded = [load(dict(img_path=image)) for image in images]
    except RuntimeError as error:
        yield f'{path}: {error}'
        return
    values = [results['img'].ravel() for results in loaded if results]
    if not values or not pixel_range.pairs:
        return
    low, high = np.percentile(np.concatenate(values), MIDDLE)
    if high - low < LEAST_SPREAD:
        yield (
            f'{path}.in_range: {pixel_range.in_range} leaves nothing of the images: of the '
            f'{len(values)} looked at, nearly all values become {low:.3g} to {high:.3g} of 0 to '
            '255; tools/dataset_converters/measure_channels.py shows what they are'
        )
