# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Decoding that loses neither bits nor channels without a word."""

import struct
from io import BytesIO
from typing import Any

import cv2
import mmcv
import numpy as np
from PIL import Image, TiffImagePlugin

from .image_errors import BrokenImageError, UnsupportedImageError
from .pixel_range import EIGHT_BITS, PixelRange

JPEG = b'\xff\xd8'  # three channels of 8 bits, or a conversion of all four of them
TIFF = (b'II*\0', b'MM\0*')
REDUCED = {
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
NUMPY, DICOM = b'\x93NUMPY', b'DICM'  # the latter after 128 bytes
SAMPLES_PER_PIXEL, BITS_PER_SAMPLE, SAMPLE_FORMAT = 277, 258, 339


def decode_image(
    content: bytes,
    pixel_range: PixelRange = EIGHT_BITS,
    color_type: str = 'color_ignore_orientation',
    backend: str = 'cv2',
    reduction: int = 1,
) -> np.ndarray:
    """Decode an image file of any kind.

    Args:
        content: The file.
        pixel_range: What to do with more than 8 bits and more than 3 channels. Defaults to
            refusing them.
        color_type: As mmcv's ``imfrombytes``: the default, as published, ignores the EXIF
            orientation, 'color' turns the image by it.
        backend: As mmcv's ``imfrombytes``. Defaults to 'cv2'.
        reduction: 2, 4 or 8 for a JPEG of a half, a quarter or an eighth of its height and width,
            rounded up; see :func:`reduction_of`. Defaults to 1.

    Returns:
        uint8 (H, W, 3), BGR, for a color type with three channels; with
        ``pixel_range.to_float32`` float32 where more than 8 bits were scaled.

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
        raise explain_failure(content, error) from error
    if image is None:
        raise explain_failure(content)
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
            f'three; LoadImage(channels={num_channels}) reads all, for a backbone of as many '
            'in_channels'
        )
    pixels = pixel_range.scale(pixels[..., :3])
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


def explain_failure(content: bytes, error: Exception | None = None) -> Exception:
    """Why a file could not be decoded: broken, or of a kind that cannot be read."""
    if error is not None and 'PIXELS' in str(error):
        return UnsupportedImageError(
            'it has more pixels than OpenCV reads, 2^30 unless set: if the image is to be trusted, '
            'raise the environment variable OPENCV_IO_MAX_IMAGE_PIXELS, or cut it into tiles'
        )
    if content.startswith(NUMPY) or content[128:132] == DICOM:
        kind = 'a NumPy array' if content.startswith(NUMPY) else 'a DICOM file'
        return UnsupportedImageError(
            f'it is {kind}: say how many channels it has by LoadImage(channels=...)'
        )
    tags = _tiff_tags(content)
    samples = int(tags.get(SAMPLES_PER_PIXEL, 1))
    if samples > 4:
        return UnsupportedImageError(
            f'it is a TIFF of {samples} bands: LoadImage(channels={samples}) reads all, for a '
            'backbone with as many in_channels, and channels=[2, 1, 0] some of them'
        )
    if tags and error is None and len(content) > 1024:
        bits, kind = tags.get(BITS_PER_SAMPLE, 1), tags.get(SAMPLE_FORMAT, 1)
        bits, kind = (value[0] if isinstance(value, tuple) else value for value in (bits, kind))
        if kind != 1 or bits not in (1, 8, 16):
            return UnsupportedImageError(
                f'it is a TIFF of {bits} bits a value, sample format {kind}, which OpenCV does not '
                f'read: LoadImage(channels={samples}) does; or write 8 or 16 bits, or 32-bit floats'
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
