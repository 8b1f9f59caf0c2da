# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Decoding that loses neither bits nor channels without a word."""

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import mmcv
import numpy as np
from PIL import Image, TiffImagePlugin

JPEG = b'\xff\xd8'  # three channels of 8 bits, or a conversion of all four of them
TIFF = (b'II*\0', b'MM\0*')
REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
SAMPLES_PER_PIXEL, BITS_PER_SAMPLE, SAMPLE_FORMAT = 277, 258, 339


class BrokenImageError(RuntimeError):
    """A file that is missing, empty, cut off, or not an image."""


class UnsupportedImageError(RuntimeError):
    """A sound image that needs a setting, or more channels than the networks take."""


@dataclass(frozen=True)
class PixelRange:
    """How values of more than 8 bits become 0 to 255.

    Args:
        in_range: Values that become 0 and 255; what lies outside is clipped. Defaults to None.
        in_percentiles: The same in percent of each image's own values, for images of unlike
            exposure. Defaults to None.
        extra_channels: 'raise', or 'drop' to read the first three. Defaults to 'raise'.

    Raises:
        ValueError: A pair is not (low, high) with low < high, percentiles leave 0 to 100, both
            pairs are given, or ``extra_channels`` is neither of the two.
    """

    in_range: tuple[float, float] | None = None
    in_percentiles: tuple[float, float] | None = None
    extra_channels: str = 'raise'

    def __post_init__(self) -> None:
        if self.in_range is not None and self.in_percentiles is not None:
            raise ValueError('LoadImage takes in_range or in_percentiles, not both')
        for name in ('in_range', 'in_percentiles'):
            pair = getattr(self, name)
            if pair is not None and not (len(pair) == 2 and pair[0] < pair[1]):
                raise ValueError(f'LoadImage: {name} must be (low, high), low < high, got {pair}')
        if self.in_percentiles and not 0 <= self.in_percentiles[0] < self.in_percentiles[1] <= 100:
            raise ValueError(
                f'LoadImage: in_percentiles must lie in 0 to 100, got {self.in_percentiles}'
            )
        if self.extra_channels not in ('raise', 'drop'):
            raise ValueError(
                f"LoadImage: extra_channels must be 'raise' or 'drop', got {self.extra_channels!r}"
            )

    def to_uint8(self, pixels: np.ndarray) -> np.ndarray:
        """Scale values of any type to uint8."""
        pixels = pixels.astype(np.float64)
        if not np.isfinite(pixels).all():
            raise BrokenImageError('some values are not finite')
        ends = self.in_range
        if ends is None:
            low, high = np.percentile(pixels, self.in_percentiles or (0, 100)).tolist()
            ends = low, max(high, np.nextafter(low, np.inf))
        scaled = (pixels - ends[0]) * (255 / (ends[1] - ends[0]))
        return scaled.clip(0, 255).round().astype(np.uint8)


def decode_image(
    content: bytes,
    pixel_range: PixelRange = PixelRange(),
    color_type: str = 'color_ignore_orientation',
    backend: str = 'cv2',
    reduction: int = 1,
) -> np.ndarray:
    """Decode an image file of any kind.

    Args:
        content: The file.
        pixel_range: What to do with more than 8 bits and more than 3 channels.
        color_type: As mmcv's ``imfrombytes``: the default, as published, ignores the EXIF
            orientation, 'color' turns the image by it.
        backend: As mmcv's ``imfrombytes``. Defaults to 'cv2'.
        reduction: 2, 4 or 8 for a JPEG of a half, a quarter or an eighth of its height and width,
            rounded up; see :func:`reduction_of`. Defaults to 1.

    Returns:
        uint8 (H, W, 3), BGR, for a color type with three channels.

    Raises:
        BrokenImageError: The file is empty, cut off, or not an image.
        UnsupportedImageError: More bits, channels or pixels than can be read as it is set.
    """
    if not content:
        raise BrokenImageError('the file is empty')
    try:
        if not content.startswith(JPEG):
            pixels = _decode_raw(content, pixel_range)
            if pixels is not None and color_type == 'color_ignore_orientation':
                return pixels
        if reduction > 1:
            flag = REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.imdecode(np.frombuffer(content, np.uint8), flag)
        else:
            image = mmcv.imfrombytes(content, flag=color_type, backend=backend)
    except (cv2.error, Image.DecompressionBombError) as error:
        raise _explain(content, error) from error
    if image is None:
        raise _explain(content)
    return image


def reduction_of(content: bytes, min_size: int) -> int:
    """Say by how much a JPEG may be reduced while it is decoded.

    The inverse cosine transform of each block then gives fewer pixels, which saves most of the
    work, and what follows has fewer pixels to read.

    Args:
        content: The file.
        min_size: Pixels of the shorter side that must be left.

    Returns:
        8, 4 or 2, the first that leaves so many; 1 where none does, or for another format.
    """
    if not content.startswith(JPEG):
        return 1
    try:
        with Image.open(BytesIO(content)) as image:
            width, height = image.size
    except Exception:  # what Pillow does not understand is decoded whole
        return 1
    return next((r for r in (8, 4, 2) if min(width, height) >= min_size * r), 1)


def _decode_raw(content: bytes, pixel_range: PixelRange) -> np.ndarray | None:
    """Pixels as they are stored, as uint8 (H, W, 3); None where only a plain decoding will do."""
    raw = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if raw is None or _is_cmyk(content, raw):
        return None
    pixels: np.ndarray = raw[..., None] if raw.ndim == 2 else raw
    num_channels = pixels.shape[2]
    if num_channels > 3 and pixel_range.extra_channels == 'raise' and not _is_opaque(pixels):
        raise UnsupportedImageError(
            f'it has {num_channels} channels, and those after the third (transparency, or a '
            "band of its own) would be lost: LoadImage(extra_channels='drop') reads the first "
            'three; networks of more channels are not supported yet'
        )
    if pixels.dtype != np.uint8:
        if pixel_range.in_range is None and pixel_range.in_percentiles is None:
            low, high = pixels.min(), pixels.max()
            raise UnsupportedImageError(
                f'its values are {pixels.dtype}, here {low} to {high}, and 8 bits would keep few '
                'of their steps: say which become 0 and 255, the same for all images, by '
                f'LoadImage(in_range=({low}, {high})), or in percent of each by '
                'LoadImage(in_percentiles=(0, 100))'
            )
        pixels = pixel_range.to_uint8(pixels[..., :3])
    if num_channels < 3:
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def _is_opaque(pixels: np.ndarray) -> bool:
    largest = np.iinfo(pixels.dtype).max if pixels.dtype.kind == 'u' else 1
    return bool((pixels[..., 3] == largest).all())


def _is_cmyk(content: bytes, pixels: np.ndarray) -> bool:
    """Whether four channels are inks, which a plain decoding makes colors of."""
    if pixels.ndim < 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        return False
    try:
        with Image.open(BytesIO(content)) as image:
            return image.mode == 'CMYK'
    except Exception:  # Pillow does not know all that OpenCV does
        return False


def _explain(content: bytes, error: Exception | None = None) -> Exception:
    """Why a file could not be decoded: broken, or of a kind that cannot be read."""
    if error is not None and 'PIXELS' in str(error):
        return UnsupportedImageError(
            'it has more pixels than OpenCV reads, 2^30 unless set: if the image is to be trusted, '
            'raise the environment variable OPENCV_IO_MAX_IMAGE_PIXELS, or cut it into tiles'
        )
    tags = _tiff_tags(content)
    samples = int(tags.get(SAMPLES_PER_PIXEL, 1))
    if samples > 4:
        return UnsupportedImageError(
            f'it is a TIFF of {samples} bands, and networks of more than three channels are not '
            'supported yet: write three of them into a file of their own'
        )
    if tags and error is None and len(content) > 1024:
        bits, kind = tags.get(BITS_PER_SAMPLE, 1), tags.get(SAMPLE_FORMAT, 1)
        bits, kind = (value[0] if isinstance(value, tuple) else value for value in (bits, kind))
        if kind != 1 or bits not in (1, 8, 16):
            return UnsupportedImageError(
                f'it is a TIFF of {bits} bits a value, sample format {kind}, which OpenCV does not '
                'read: write 8 or 16 bits, or 32-bit floats'
            )
    return BrokenImageError(f'it cannot be decoded{f" ({error})" if error else ""}')


def _tiff_tags(content: bytes) -> dict[int, Any]:
    """Tags of a TIFF's first image, none of another or a broken file."""
    if not content.startswith(TIFF):
        return {}
    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
        file = BytesIO(content)
        file.seek(directory.next)
        directory.load(file)
        return dict(directory)
    except (struct.error, SyntaxError, OSError, ValueError, TypeError, KeyError):
        return {}
