# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The photometric augmentation of iBOT: drawn per crop, applied to whole batches on any device.

A crop's draw is one row of ``NUM_PARAMETERS`` numbers, so that workers hand over uint8 crops and a
small table, and the device does the rest. Flips are not here: they come with the crop.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .blur import gaussian_blur
from .colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    grey_level,
    solarise,
)

# Columns of a row of parameters. The first four are the factors of the jitter; ORDER holds four
# columns: which jitter operation (0..3) comes first, second, third, fourth, or -1 for none.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDER = slice(4, 8)
GREY, BLUR_RADIUS, SOLARISE = range(8, 11)
NUM_PARAMETERS = 11

# Operation and the factor that leaves an image alone, in the order of the columns.
JITTER: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float], ...] = (
    (adjust_brightness, 1.0),
    (adjust_contrast, 1.0),
    (adjust_saturation, 1.0),
    (adjust_hue, 0.0),
)
CPU_BLOCK = 4 * 3 * 224 * 224  # values


@dataclass(frozen=True)
class AugmentationPolicy:
    """What may happen to a crop, and how often. Defaults are iBOT's for local crops.

    Args:
        brightness: The factor is uniform in 1 ± this, 0 to 1.
        contrast: As ``brightness``.
        saturation: As ``brightness``.
        hue: The shift is uniform in ± this, in turns of the colour circle, 0 to 0.5.
        jitter_probability: Of the four above together, in random order.
        grey_probability: Of turning grey.
        blur_probability: Of Gaussian blur.
        blur_radius: The standard deviation is uniform between these two, in pixels.
        solarise_probability: Of inverting all values from 128 up.

    Raises:
        ValueError: A value out of its range.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    blur_radius: tuple[float, float] = (0.1, 2.0)
    solarise_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ('brightness', 'contrast', 'saturation', 'hue'):
            self._check(name, 0.5 if name == 'hue' else 1.0)
        for name in ('jitter', 'grey', 'blur', 'solarise'):
            self._check(f'{name}_probability', 1.0)
        low, high = self.blur_radius
        if not 0 <= low <= high:
            raise ValueError(f'blur_radius must be (low, high), 0 <= low <= high; got {low, high}')

    def _check(self, name: str, largest: float) -> None:
        value = getattr(self, name)
        if not 0 <= value <= largest:
            raise ValueError(f'{name} must be between 0 and {largest}, got {value}')

    def as_row(self) -> np.ndarray:
        """All numbers in the order of the fields, (10,), as :func:`draw_parameters` reads them."""
        jitter = [self.brightness, self.contrast, self.saturation, self.hue]
        probabilities = [self.jitter_probability, self.grey_probability, self.blur_probability]
        return np.array([*jitter, *probabilities, *self.blur_radius, self.solarise_probability])


GLOBAL_FIRST = AugmentationPolicy(blur_probability=1.0)
GLOBAL_REST = AugmentationPolicy(blur_probability=0.1, solarise_probability=0.2)
LOCAL = AugmentationPolicy(blur_probability=0.5)


def draw_parameters(policies: np.ndarray, rng: Any = np.random) -> np.ndarray:
    """Draw one row of parameters for each crop.

    Args:
        policies: (N, 10), stacked :meth:`AugmentationPolicy.as_row`, one for each crop.
        rng: Source of randomness. Defaults to numpy's global generator.

    Returns:
        float32 (N, ``NUM_PARAMETERS``), see the column names above. A factor at its neutral value
        (1, hue 0), an order of -1, a radius or a flag of 0 mean that the operation is left out.
    """
    spread, (jitter, grey, blur, low, high, solarised) = policies[:, :4], policies[:, 4:].T
    drawn = rng.random((len(policies), 13))
    parameters = np.empty((len(policies), NUM_PARAMETERS), dtype=np.float32)
    neutral = np.array([factor for _, factor in JITTER])
    parameters[:, :4] = neutral + spread * (2 * drawn[:, :4] - 1)
    order = drawn[:, 4:8].argsort(axis=1)
    parameters[:, ORDER] = np.where(drawn[:, 8:9] < jitter[:, None], order, -1)
    parameters[:, GREY] = drawn[:, 9] < grey
    radius = low + (high - low) * drawn[:, 11]
    parameters[:, BLUR_RADIUS] = np.where(drawn[:, 10] < blur, radius, 0)
    parameters[:, SOLARISE] = drawn[:, 12] < solarised
    return parameters


def apply_augmentation(images: Tensor, parameters: Tensor) -> Tensor:
    """Colour jitter, grey, blur and solarisation, each image by its own row.

    Equal to torchvision's ``ColorJitter`` and ``RandomGrayscale`` and Pillow's ``GaussianBlur`` and
    ``solarize`` on 8-bit images, given the same parameters. Every operation touches only the
    images that it was drawn for.

    Args:
        images: (N, 3, H, W), RGB, on any device, uint8 or floats that hold whole numbers 0 to 255.
        parameters: (N, ``NUM_PARAMETERS``) as of :func:`draw_parameters`. Best on the CPU, also
            when the images are not: which images get which operation is decided on the CPU, and
            parameters on a device have to be waited for.

    Returns:
        New images of the same shape and device, float32 for uint8, else of the same dtype; they
        hold whole numbers 0 to 255.

    Raises:
        ValueError: Shapes do not fit.
    """
    if images.ndim != 4 or parameters.shape != (len(images), NUM_PARAMETERS):
        raise ValueError(
            f'apply_augmentation needs images (N, 3, H, W) and parameters (N, {NUM_PARAMETERS}), '
            f'got {tuple(images.shape)} and {tuple(parameters.shape)}'
        )
    output = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    rows = parameters.tolist()
    # On a CPU a few images at a time, so that they and the temporaries stay in the cache.
    step = max(1, CPU_BLOCK // images[0].numel()) if images.device.type == 'cpu' else len(images)
    for start in range(0, len(images), step):
        _augment_block(output[start : start + step], rows[start : start + step])
    return output.to(images.dtype) if images.is_floating_point() else output


def _augment_block(images: Tensor, rows: list[list[float]]) -> None:
    """Augment in place, operation by operation, each on all images that have it next."""
    jitter: dict[tuple[int, int], list[int]] = defaultdict(list)
    for image, row in enumerate(rows):
        for position, code in enumerate(row[ORDER]):
            if code >= 0 and row[int(code)] != JITTER[int(code)][1]:
                jitter[position, int(code)].append(image)
    for (_, code), chosen in sorted(jitter.items()):
        _update(images, chosen, JITTER[code][0], [rows[i][code] for i in chosen])

    grey, blurred, solarised = (
        [image for image, row in enumerate(rows) if row[column] > 0]
        for column in (GREY, BLUR_RADIUS, SOLARISE)
    )
    _update(images, grey, _to_grey)
    _update(images, blurred, gaussian_blur, [rows[i][BLUR_RADIUS] for i in blurred])
    _update(images, solarised, solarise)


def _update(
    images: Tensor, chosen: list[int], operation: Callable[..., Tensor], *arguments: list[float]
) -> None:
    """Replace the chosen images by what the operation makes of them."""
    if not chosen:
        return
    numbers = [torch.tensor(values) for values in arguments]
    if len(chosen) == 1:
        image = images[chosen[0] : chosen[0] + 1]
        image.copy_(operation(image, *numbers))
    else:
        index = torch.tensor(chosen).to(images.device, non_blocking=True)
        images.index_copy_(0, index, operation(images.index_select(0, index), *numbers))


def _to_grey(images: Tensor) -> Tensor:
    return grey_level(images).expand_as(images)
