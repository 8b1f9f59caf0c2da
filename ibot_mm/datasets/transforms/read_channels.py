# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Channels of an image file as they are stored: any number, of any type, in the file's order."""

from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from typing import Any

import cv2
import numpy as np

from .decode_image import DICOM, NUMPY, explain_failure
from .image_errors import BrokenImageError, UnsupportedImageError

TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')  # the last two have 64-bit offsets
PNG = b'\x89PNG'
GRAY_WITH_ALPHA = 4  # a PNG's color type, at byte 25
REDUCED, MASK = 1, 4  # flags of a TIFF's page that is not an image of its own
MIN_IS_WHITE, PALETTE = 0, 3  # a TIFF's photometric interpretation


def read_channels(
    content: bytes, channels: int | Sequence[int], channel_axis: int = -1
) -> np.ndarray:
    """Read channels of an image file.

    TIFF (pages or bands are channels), ``.npy``, DICOM (frames are channels; values after the
    modality's rescaling, large ones bright), and all that OpenCV decodes.

    Args:
        content: The file.
        channels: How many it must have, all of which are read, or the numbers of those to read.
        channel_axis: Axis of the channels in a ``.npy``, -1 or 0. Defaults to -1.

    Returns:
        Shape (H, W, C), contiguous, of the file's type.

    Raises:
        BrokenImageError: The file is empty, cut off, or not an image.
        UnsupportedImageError: The file has other channels, or needs a package or a setting.
    """
    if not content:
        raise BrokenImageError('the file is empty')
    if content.startswith(NUMPY):
        pixels = _read_numpy(content, channel_axis)
    elif content.startswith(TIFF):
        pixels = _read_tiff(content)
    elif content[128:132] == DICOM:
        pixels = _read_dicom(content)
    else:
        pixels = _read_plain(content)
    if pixels.dtype.kind not in 'uif':
        raise UnsupportedImageError(f'its values are {pixels.dtype}: write integers or floats')
    return np.ascontiguousarray(_choose(pixels, channels))


def _choose(pixels: np.ndarray, channels: int | Sequence[int]) -> np.ndarray:
    number = pixels.shape[2]
    if isinstance(channels, int):
        if number != channels:
            raise UnsupportedImageError(
                f'it has {number} channel{"s" * (number > 1)}, not the {channels} that '
                f'LoadImage(channels={channels}) asks for: all files must have the same; list the '
                'ones to read, as in channels=[0], and set in_channels of the backbone to as many'
            )
        return pixels
    if max(channels) >= number:
        raise UnsupportedImageError(
            f'it has {number} channel{"s" * (number > 1)}, counted from 0, and '
            f'LoadImage(channels={list(channels)}) asks for number {max(channels)}'
        )
    return pixels[..., list(channels)]


def _read_plain(content: bytes) -> np.ndarray:
    """Whatever OpenCV decodes, which keeps 16 bits and floats, with color as RGB."""
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise explain_failure(content, error) from error
    if pixels is None:
        raise explain_failure(content)
    if pixels.ndim == 2:
        return pixels[..., None]
    if content.startswith(PNG) and content[25] == GRAY_WITH_ALPHA:
        return pixels[..., [0, 3]]
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def _read_numpy(content: bytes, channel_axis: int) -> np.ndarray:
    array = np.load(BytesIO(content), allow_pickle=False)
    if array.ndim == 2:
        return array[..., None]
    if array.ndim != 3:
        raise UnsupportedImageError(
            f'it is an array of shape {array.shape}: rows, columns and channels are read'
        )
    pixels = np.moveaxis(array, channel_axis, -1)
    if pixels.shape[2] > min(pixels.shape[:2]):
        raise UnsupportedImageError(
            f'it is an array of shape {array.shape}, which with channel_axis={channel_axis} has '
            'more channels than rows or columns: set LoadImage(channel_axis='
            f'{0 if channel_axis else -1})'
        )
    return pixels


def _read_tiff(content: bytes) -> np.ndarray:
    tifffile = _import_reader('tifffile', 'a TIFF')
    with tifffile.TiffFile(BytesIO(content)) as file:
        series, *others = file.series
        _check_tiff(series, others)
        try:
            pixels = series.asarray()
        except ValueError as error:
            if 'imagecodecs' not in str(error):
                raise
            raise UnsupportedImageError(
                f"it is a compressed TIFF ({error}): pip install 'ibot-mm[sensors]'"
            ) from error
        axes, inverted = series.axes, series.keyframe.photometric == MIN_IS_WHITE
    if inverted and pixels.dtype.kind == 'u':
        pixels = np.iinfo(pixels.dtype).max - pixels
    others = [axis for axis in axes if axis not in 'YX']
    return np.moveaxis(pixels, axes.index(others[0]), -1) if others else pixels[..., None]


def _check_tiff(series: Any, others: Sequence[Any]) -> None:
    """Refuse what is not rows, columns and at most one axis of channels."""
    page, axes = series.keyframe, series.axes
    if len(axes) > 3 or 'Y' not in axes or 'X' not in axes:
        raise UnsupportedImageError(
            f'it is a TIFF with axes {axes} of shape {series.shape}: rows (Y), columns (X) and one '
            'axis of channels are read'
        )
    if page.photometric == PALETTE or page.bitspersample < 8:
        kind = 'a palette' if page.photometric == PALETTE else f'{page.bitspersample} bits a value'
        raise UnsupportedImageError(f'it is a TIFF with {kind}: write 8 bits or more, or floats')
    size = (page.imagelength, page.imagewidth)
    unlike = [
        other.keyframe
        for other in others
        if (other.keyframe.imagelength, other.keyframe.imagewidth) == size
        and not other.keyframe.subfiletype & (REDUCED | MASK)
    ]
    if unlike:
        kinds = ' and '.join(f'{part.dtype} {part.shape}' for part in (page, *unlike))
        raise UnsupportedImageError(
            f'it is a TIFF whose pages are not alike, {kinds}: write pages of one type'
        )


def _read_dicom(content: bytes) -> np.ndarray:
    pydicom = _import_reader('pydicom', 'a DICOM file')
    processing = _import_reader('pydicom.pixels', 'a DICOM file')
    dataset = pydicom.dcmread(BytesIO(content))
    colors, frames = dataset.get('SamplesPerPixel', 1), int(dataset.get('NumberOfFrames') or 1)
    interpretation = dataset.get('PhotometricInterpretation', '')
    if (colors > 1 and frames > 1) or interpretation == 'PALETTE COLOR':
        raise UnsupportedImageError(
            f'it is a DICOM file of {frames} frames with {interpretation}: gray frames, or one '
            'image in color, are read'
        )
    try:
        pixels = processing.pixel_array(BytesIO(content))
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedImageError(
            f'pydicom cannot decode its pixels: {error} Write them without compression, or '
            'install what it names'
        ) from error
    if interpretation == 'MONOCHROME1':  # small values are bright
        signed = dataset.PixelRepresentation == 1
        pixels = (-1 if signed else 2**dataset.BitsStored - 1) - pixels.astype(np.int32)
    pixels = processing.apply_modality_lut(pixels, dataset)
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels if colors > 1 else np.moveaxis(pixels, 0, -1)


def _import_reader(module: str, kind: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise UnsupportedImageError(
            f"it is {kind}, which needs {module}: pip install 'ibot-mm[sensors]'"
        ) from error
