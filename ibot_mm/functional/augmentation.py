# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The photometric augmentation of iBOT: drawn per crop, applied to whole batches on any device.

A crop's draw is one row of ``NUM_PARAMETERS`` numbers, so that workers hand over uint8 crops and a
small table, and the device does the rest. Flips are not here: they come with the crop.

There are two sets of operations with the same values: on batches of tensors for accelerators, and
on one 8-bit image at a time for CPUs, where memory traffic counts more than launches. A third one
is for images of more than 8 bits. Channels other than RGB know brightness, contrast and blur only.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import color, color_float, color_uint8
from .blur import gaussian_blur, gaussian_blur_float, gaussian_blur_uint8

# Columns of a row of parameters. The first four are the factors of the jitter; ORDER holds four
# columns: which jitter operation (0..3) comes first, second, third, fourth, or -1 for none.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
ORDER = slice(4, 8)
GRAY, BLUR_RADIUS, SOLARIZE = range(8, 11)
NUM_PARAMETERS = 11

NEUTRAL = np.array([1, 1, 1, 0, -1, -1, -1, -1, 0, 0, 0], dtype=np.float32)  # does nothing
FACTOR_STEP = 2**-14
OF_COLOR = (SATURATION, HUE, GRAY, SOLARIZE)  # columns that mean something for RGB alone

# By column. Each takes (images, values): a batch and a tensor, for a new batch ...
BATCH_OPERATIONS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    BRIGHTNESS: color.adjust_brightness,
    CONTRAST: color.adjust_contrast,
    SATURATION: color.adjust_saturation,
    HUE: color.adjust_hue,
    GRAY: lambda images, _: color.to_gray(images),
    BLUR_RADIUS: gaussian_blur,
    SOLARIZE: lambda images, _: color.solarize(images),
}
# ... the same for images with steps between the 256 levels, without rounding, ...
FLOAT_OPERATIONS: dict[int, Callable[[Tensor, Tensor], Tensor]] = {
    BRIGHTNESS: color_float.adjust_brightness,
    CONTRAST: color_float.adjust_contrast,
    SATURATION: color_float.adjust_saturation,
    HUE: color_float.adjust_hue,
    GRAY: lambda images, _: color_float.to_gray(images),
    BLUR_RADIUS: gaussian_blur_float,
    SOLARIZE: lambda images, _: color.solarize(images),
}
# ... or one uint8 image and a number, in place.
IMAGE_OPERATIONS: dict[int, Callable[[np.ndarray, float], None]] = {
    BRIGHTNESS: color_uint8.adjust_brightness,
    CONTRAST: color_uint8.adjust_contrast,
    SATURATION: color_uint8.adjust_saturation,
    HUE: color_uint8.adjust_hue,
    GRAY: lambda image, _: color_uint8.to_gray(image),
    BLUR_RADIUS: gaussian_blur_uint8,
    SOLARIZE: lambda image, _: color_uint8.solarize(image),
}


@dataclass(frozen=True)
class AugmentationPolicy:
    """What may happen to a crop, and how often. Defaults are iBOT's for local crops.

    Args:
        brightness: The factor is uniform in 1 ± this, 0 to 1.
        contrast: As ``brightness``.
        saturation: As ``brightness``.
        hue: The shift is uniform in ± this, in turns of the color circle, 0 to 0.5.
        jitter_prob: Of the four above together, in random order.
        gray_prob: Of turning gray.
        blur_prob: Of Gaussian blur.
        blur_radius: The standard deviation is uniform between these two, in pixels.
        solarize_prob: Of inverting all values from 128 up.

    Raises:
        ValueError: A value out of its range.
    """

    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    jitter_prob: float = 0.8
    gray_prob: float = 0.2
    blur_prob: float = 0.5
    blur_radius: tuple[float, float] = (0.1, 2.0)
    solarize_prob: float = 0.0

    def __post_init__(self) -> None:
        for name in ('brightness', 'contrast', 'saturation', 'hue'):
            self._check(name, 0.5 if name == 'hue' else 1.0)
        for name in ('jitter', 'gray', 'blur', 'solarize'):
            self._check(f'{name}_prob', 1.0)
        low, high = self.blur_radius
        if not 0 <= low <= high:
            raise ValueError(f'blur_radius must be (low, high), 0 <= low <= high; got {low, high}')

    def _check(self, name: str, largest: float) -> None:
        value = getattr(self, name)
        if not 0 <= value <= largest:
            raise ValueError(f'{name} must be between 0 and {largest}, got {value}')

    @property
    def color_operations(self) -> list[str]:
        """Names of the fields that ask for what only RGB knows."""
        jitter = ('saturation', 'hue') if self.jitter_prob else ()
        return [name for name in (*jitter, 'gray_prob', 'solarize_prob') if getattr(self, name)]

    def as_row(self) -> np.ndarray:
        """Return all numbers in the order of the fields, (10,), for :func:`sample_parameters`."""
        jitter = [self.brightness, self.contrast, self.saturation, self.hue]
        probabilities = [self.jitter_prob, self.gray_prob, self.blur_prob]
        return np.array([*jitter, *probabilities, *self.blur_radius, self.solarize_prob])


GLOBAL_FIRST = AugmentationPolicy(blur_prob=1.0)
GLOBAL_REST = AugmentationPolicy(blur_prob=0.1, solarize_prob=0.2)
LOCAL = AugmentationPolicy(blur_prob=0.5)


def sample_parameters(policies: np.ndarray, rng: Any = np.random) -> np.ndarray:
    """Draw one row of parameters for each crop.

    Args:
        policies: (N, 10), stacked :meth:`AugmentationPolicy.as_row`, one for each crop.
        rng: Source of randomness. Defaults to numpy's global generator.

    Returns:
        float32 (N, ``NUM_PARAMETERS``), see the column names above. A factor at its neutral value
        (1, hue 0), an order of -1, a radius or a flag of 0 mean that the operation is left out.
        Factors are multiples of ``FACTOR_STEP``, upon which float32 arithmetic with 8-bit values
        is exact, hence the same on every device.
    """
    spread, (jitter, gray, blur, low, high, solarized) = policies[:, :4], policies[:, 4:].T
    drawn = rng.random((len(policies), 13))
    parameters = np.empty((len(policies), NUM_PARAMETERS), dtype=np.float32)
    steps = np.trunc(spread * (2 * drawn[:, :4] - 1) / FACTOR_STEP)
    parameters[:, :4] = NEUTRAL[:4] + FACTOR_STEP * steps
    order = drawn[:, 4:8].argsort(axis=1)
    parameters[:, ORDER] = np.where(drawn[:, 8:9] < jitter[:, None], order, -1)
    parameters[:, GRAY] = drawn[:, 9] < gray
    radius = low + (high - low) * drawn[:, 11]
    parameters[:, BLUR_RADIUS] = np.where(drawn[:, 10] < blur, radius, 0)
    parameters[:, SOLARIZE] = drawn[:, 12] < solarized
    return parameters


def apply_augmentation(images: Tensor, parameters: Tensor) -> None:
    """Apply color jitter, gray, blur and solarization in place, each image by its own row.

    Equal to torchvision's ``ColorJitter`` and ``RandomGrayscale`` and Pillow's ``GaussianBlur`` and
    ``solarize`` on 8-bit images, given the same parameters. Every operation touches only the
    images that it was drawn for.

    Args:
        images: uint8 (N, C, H, W), contiguous, on any device; or floating point of 0 to 255, of
            which nothing is rounded. Three channels are RGB.
        parameters: float32 (N, ``NUM_PARAMETERS``) as of :func:`sample_parameters`, best on CPU,
            also when the images are not: which images get which operation is decided on the CPU,
            and parameters on a device have to be waited for.

    Raises:
        ValueError: Shapes or types do not fit, or other channels than RGB are to change color.
    """
    known = images.dtype == torch.uint8 or images.is_floating_point()
    if not known or images.ndim != 4 or not images.is_contiguous():
        raise ValueError(
            'apply_augmentation needs contiguous uint8 images (N, C, H, W), or floating point ones '
            f'of 0 to 255, got {images.dtype} {tuple(images.shape)} with strides {images.stride()}'
        )
    if parameters.shape != (len(images), NUM_PARAMETERS):
        raise ValueError(
            f'apply_augmentation needs parameters ({len(images)}, {NUM_PARAMETERS}), one row for '
            f'each image, got {tuple(parameters.shape)}'
        )
    rows = parameters.cpu()
    if images.shape[1] != 3 and np.isin(_sequence(rows.numpy()), OF_COLOR).any():
        raise ValueError(f'apply_augmentation: {no_color(images.shape[1])}')
    if images.is_floating_point():
        augment_batch(images, rows, FLOAT_OPERATIONS)
    elif images.device.type == 'cpu':
        augment_images(images.numpy(), rows.numpy())
    else:
        images.copy_(augment_batch(images.float(), rows))


def no_color(num_channels: int) -> str:
    """Say what cannot be done with images that are not RGB."""
    return (
        f'hue, saturation, gray and solarization mean nothing for images of {num_channels} '
        'channels: set hue, saturation, gray_prob and solarize_prob to 0'
    )


def augment_images(images: Iterable[np.ndarray], parameters: np.ndarray) -> None:
    """Augment 8-bit images in place, one after the other, on the CPU.

    Args:
        images: Each uint8 (C, H, W), contiguous; sizes may differ. Three channels are RGB.
        parameters: (number of images, ``NUM_PARAMETERS``), float32.
    """
    rows = zip(images, parameters.tolist(), _sequence(parameters).tolist())
    for image, values, columns in rows:
        for column in columns:
            if column >= 0:
                IMAGE_OPERATIONS[column](image, values[column])


def augment_batch(
    images: Tensor,
    parameters: Tensor,
    operations: Mapping[int, Callable[[Tensor, Tensor], Tensor]] = BATCH_OPERATIONS,
) -> Tensor:
    """Augment a batch in place, operation by operation, each on all images that have it next.

    For accelerators, though it runs on a CPU too; the host never waits for the device.

    Args:
        images: float32 (N, C, H, W), 0 to 255, on any device. Three channels are RGB.
        parameters: float32 (N, ``NUM_PARAMETERS``), on the CPU.
        operations: By column. Defaults to those of 8 bits, for images of whole numbers.

    Returns:
        The images.
    """
    for step in _sequence(parameters.numpy()).T:
        for column in np.unique(step[step >= 0]).tolist():
            chosen = torch.from_numpy(np.flatnonzero(step == column))
            index = chosen.to(images.device, non_blocking=True)
            operation, values = operations[column], parameters[chosen, column]
            images.index_copy_(0, index, operation(images.index_select(0, index), values))
    return images


def _sequence(parameters: np.ndarray) -> np.ndarray:
    """Which column's operation comes first, second, ... for each image, -1 for none; int (N, 7)."""
    last = [[GRAY, BLUR_RADIUS, SOLARIZE]] * len(parameters)
    columns = np.hstack([parameters[:, ORDER].astype(int), last])
    changes = np.take_along_axis(parameters != NEUTRAL, columns, axis=1)
    return np.where((columns >= 0) & changes, columns, -1)
