# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The corruptions of ImageNet-C (arXiv 1903.12261), made from clean images.

A corruption is a function of an RGB image (H, W, 3), float64 from 0 to 1, a severity from 1 to 5
and a generator of random numbers. Settings are those of ImageNet-C, for images of 224 pixels; in
images of other sizes lengths grow and shrink with the shorter side.

Why not a library: ``imagecorruptions`` 1.1.2 fails with scikit-image 0.26. Its maintained fork
``imagecorruptions-imaug`` 1.1.5 runs with numpy 2, but installs ``opencv-python`` over the
headless build that this project needs, adds numba, and takes random numbers from numpy's global
state, so that an image depends on all before it. docs/robustness.md compares both.
"""

import zlib
from collections.abc import Callable

import numpy as np

from . import blur, digital, noise, weather
from .digital import compress

Corruption = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

SEVERITIES = 1, 2, 3, 4, 5
JPEG_QUALITY = 85  # that the images of ImageNet-C are stored with

CORRUPTIONS: dict[str, Corruption] = dict(
    gaussian_noise=noise.gaussian_noise,
    shot_noise=noise.shot_noise,
    impulse_noise=noise.impulse_noise,
    defocus_blur=blur.defocus_blur,
    glass_blur=blur.glass_blur,
    motion_blur=blur.motion_blur,
    zoom_blur=blur.zoom_blur,
    snow=weather.snow,
    frost=weather.frost,
    fog=weather.fog,
    brightness=digital.brightness,
    contrast=digital.contrast,
    elastic_transform=digital.elastic_transform,
    pixelate=digital.pixelate,
    jpeg_compression=digital.jpeg_compression,
    # The mCE has those before; these are the extra ones.
    speckle_noise=noise.speckle_noise,
    gaussian_blur=blur.gaussian_blur,
    spatter=weather.spatter,
    saturate=digital.saturate,
)

__all__ = ['CORRUPTIONS', 'JPEG_QUALITY', 'SEVERITIES', 'Corruption', 'compress', 'corrupt']


def corrupt(
    image: np.ndarray,
    name: str,
    severity: int = 1,
    seed: int = 0,
    number: int = 0,
    jpeg_quality: int | None = None,
) -> np.ndarray:
    """Corrupt an image as ImageNet-C does.

    Args:
        image: uint8, RGB, (H, W, 3).
        name: Of ``CORRUPTIONS``.
        severity: 1 to 5. Defaults to 1.
        seed: Of the random numbers. Defaults to 0.
        number: Of the image; each has random numbers of its own. Defaults to 0.
        jpeg_quality: Of a last compression; ImageNet-C has 85. Defaults to None, none.

    Returns:
        uint8, of the same shape.

    Raises:
        ValueError: If the name or the severity is not known, or the image is not uint8 with three
            channels.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f'unknown corruption {name!r}: choose from {", ".join(CORRUPTIONS)}')
    if severity not in SEVERITIES:
        raise ValueError(f'the severity of a corruption must be one of 1 to 5, got {severity!r}')
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f'a corruption needs a uint8 image of shape (H, W, 3), got {image.dtype} of '
            f'{image.shape}'
        )
    random = np.random.default_rng((seed, number, zlib.crc32(name.encode()), severity))
    corrupted = CORRUPTIONS[name](image / 255, severity, random)
    pixels = (np.clip(corrupted, 0, 1) * 255 + 1e-6).astype(np.uint8)
    return pixels if jpeg_quality is None else compress(pixels, jpeg_quality)
