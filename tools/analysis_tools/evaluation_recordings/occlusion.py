# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Occlusion and shuffling: patches sampled, taken away, and put in another order."""

import re
from typing import Any

from torch import Tensor

from ibot_mm.functional.attention_mass import most_attended
from ibot_mm.functional.occlusion import (
    drop_patches,
    first_patches,
    sample_orders,
    shuffle_patches,
)

from .recording import Recording

RECORDS = ('images_low', 'salient.attention')
INPUTS = ('images_low', 'salient.images', 'salient.attention')
ENLARGED = re.compile(r'repeated (\d+) times')  # how often pixels of images_low are
OFFSET = 8  # pixels, of a run with random_offset_drop


def replay(recording: Recording) -> dict[str, Any]:
    """Patches that are sampled, and the images without or with them."""
    images = recording.tensor('images_low')
    times = int(ENLARGED.findall(recording.settings['image'])[0])
    images = images.repeat_interleave(times, 2).repeat_interleave(times, 3)
    values: dict[str, Any] = {}
    for number, run in enumerate(recording.settings['runs']):
        rows, changed = _random(images, run)
        values |= {f'run{number}.rows': rows, f'run{number}.images': changed}
    for number, run in enumerate(recording.settings['salient']):
        changed, lost = _salient(recording, run)
        values |= {f'salient{number}.images': changed, f'salient{number}.lost_share': lost}
    return values


def _random(images: Tensor, run: dict[str, Any]) -> tuple[Tensor, Tensor]:
    size = run['shuffle_size']
    grid = (size, size) if isinstance(size, int) else tuple(size)
    numbers = range(len(images))
    orders = sample_orders(grid[0] * grid[1], numbers, run['numpy_seed'], as_published=True)
    if run.get('shuffle'):
        return orders[0], shuffle_patches(images, grid, orders)
    count = run['drop_count']
    offset = OFFSET if run.get('random_offset_drop') else 0
    return orders[0, :count], drop_patches(images, first_patches(orders, count), grid, offset)


def _salient(recording: Recording, run: dict[str, Any]) -> tuple[Tensor, Tensor]:
    images = recording.tensor('salient.images')
    attention = recording.tensor('salient.attention')[:, recording.settings['head'], 1:]
    side = round(attention.shape[1] ** 0.5)
    salient = most_attended(attention, run['share'])
    dropped = salient if run['drop_salient'] else ~salient
    return drop_patches(images, dropped, (side, side)), dropped.double().mean()
