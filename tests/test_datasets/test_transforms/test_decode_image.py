# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Nothing of an image is lost without a word."""

import struct
import zlib
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from ibot_mm.datasets.transforms import LoadImage
from ibot_mm.datasets.transforms.decode_image import decode_image
from ibot_mm.datasets.transforms.image_errors import BrokenImageError, UnsupportedImageError
from ibot_mm.datasets.transforms.pixel_range import PixelRange

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 256, (48, 56, 3), dtype=np.uint8)
TEN_BITS = RNG.integers(0, 1024, (48, 56, 3)).astype(np.uint16)
TEN_BITS.flat[:2] = 0, 1023
BANDS = np.dstack([COLOR, COLOR[..., :1]])
OPAQUE = np.dstack([COLOR, np.full_like(COLOR[..., :1], 255)])


def encode(extension, pixels):
    ok, content = cv2.imencode(extension, pixels)
    assert ok
    return content.tobytes()


def save(image, kind):
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


def write_tiff(pixels, sample_format=1):
    """A plain TIFF of any number of bands."""
    height, width, bands = pixels.shape
    data, bits = pixels.tobytes(), 8 * pixels.itemsize
    place = 8 + len(data)
    arrays = place + 2 + 12 * 10 + 4
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, bands, arrays), (259, 3, 1, 1),
               (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, bands), (278, 4, 1, height),
               (279, 4, 1, len(data)), (339, 3, bands, arrays + 2 * bands)]  # fmt: skip
    directory = b''.join(struct.pack('<HHII', *entry) for entry in entries)
    tail = struct.pack(f'<{2 * bands}H', *[bits] * bands, *[sample_format] * bands)
    head = b'II*\0' + struct.pack('<I', place)
    return head + data + struct.pack('<H', 10) + directory + struct.pack('<I', 0) + tail


def huge_png(side):
    """Header of a PNG of side x side pixels, with next to no data."""

    def chunk(name, data):
        content = name + data
        return struct.pack('>I', len(data)) + content + struct.pack('>I', zlib.crc32(content))

    header = chunk(b'IHDR', struct.pack('>IIBBBBB', side, side, 8, 2, 0, 0, 0))
    data = chunk(b'IDAT', zlib.compress(bytes(1000)))
    return b'\x89PNG\r\n\x1a\n' + header + data + chunk(b'IEND', b'')


PLAIN = {
    'png': encode('.png', COLOR),
    'gray png': encode('.png', COLOR[..., 0]),
    'opaque png': encode('.png', OPAQUE),
    'palette png': save(Image.fromarray(COLOR).convert('P'), 'png'),
    'one bit png': save(Image.fromarray(COLOR).convert('1'), 'png'),
    'jpeg': encode('.jpg', COLOR),
    'gray jpeg': encode('.jpg', COLOR[..., 0]),
    'cmyk jpeg': save(Image.fromarray(COLOR).convert('CMYK'), 'jpeg'),
    'cmyk tiff': save(Image.fromarray(COLOR).convert('CMYK'), 'tiff'),
    'tiff': encode('.tif', COLOR),
    'webp': encode('.webp', COLOR),
    'bmp': encode('.bmp', COLOR),
}


@pytest.mark.parametrize('name', PLAIN)
def test_plain_images_are_what_pillow_makes_of_them(name):
    image = decode_image(PLAIN[name])
    with Image.open(BytesIO(PLAIN[name])) as reference:
        pixels = np.asarray(reference.convert('RGB')).astype(int)
    assert image.dtype == np.uint8 and image.flags.c_contiguous
    assert np.abs(image[..., ::-1] - pixels).max() <= (2 if 'cmyk' in name else 1)


UNSUPPORTED = {
    '10 bits in 16': (encode('.png', TEN_BITS), r'uint16, here 0 to 1023.*in_range=\(0, 1023\)'),
    '16 bits gray': (encode('.png', TEN_BITS[..., 0]), 'in_percentiles'),
    '16 bits tiff': (encode('.tif', TEN_BITS), 'in_range'),
    '16 bits jp2': (encode('.jp2', TEN_BITS), 'in_range'),
    'floats': (encode('.tif', COLOR.astype('f4') / 255), 'float32, here 0.0 to 1.0.*in_range'),
    'transparency': (encode('.png', BANDS), 'extra_channels'),
    'fourth band': (
        encode('.tif', BANDS),
        r"4 channels.*extra_channels='drop'.*channels=4\) reads all",
    ),
    'five bands': (write_tiff(np.dstack([BANDS, COLOR[..., :1]])), r'TIFF of 5 bands.*channels=5'),
    'half floats': (
        write_tiff(COLOR.astype('f2'), 3),
        r'16 bits a value, sample format 3.*channels=3\) does',
    ),
    '40,000 pixels': (huge_png(40_000), 'OPENCV_IO_MAX_IMAGE_PIXELS'),
}


@pytest.mark.parametrize('name', UNSUPPORTED)
@pytest.mark.parametrize('on_error', ['raise', 'skip'])
def test_unsupported_images_name_the_way_out(name, on_error, tmp_path):
    """They are not broken: skipping would lose all of them."""
    content, expected = UNSUPPORTED[name]
    (tmp_path / 'image').write_bytes(content)
    with pytest.raises(UnsupportedImageError, match=expected) as error:
        LoadImage(on_error=on_error)(dict(img_path=str(tmp_path / 'image')))
    assert str(tmp_path / 'image') in str(error.value)


BROKEN = {
    'empty': b'',
    'text': b'not an image',
    'half a png': PLAIN['png'][:300],
    'half a tiff': PLAIN['tiff'][:2000],
    'half a jpeg': PLAIN['jpeg'][:400],
    'not a number': encode('.tif', np.full((48, 56), np.nan, 'f4')),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_images(name):
    with pytest.raises(BrokenImageError):
        decode_image(BROKEN[name], PixelRange(in_range=(0, 1)))


def test_range():
    image = decode_image(encode('.png', TEN_BITS), PixelRange(in_range=(0, 1023)))
    assert len(np.unique(image)) == 256  # and not 4
    assert np.array_equal(image, np.round(TEN_BITS / 1023 * 255).astype(np.uint8))
    clipped = decode_image(encode('.png', TEN_BITS), PixelRange(in_range=(100, 200)))
    assert set(clipped[TEN_BITS < 100]) == {0} and set(clipped[TEN_BITS > 200]) == {255}
    gray = decode_image(encode('.tif', TEN_BITS[..., 0]), PixelRange(in_range=(0, 1023)))
    assert np.array_equal(gray, np.repeat(image[..., :1], 3, axis=2))


def test_percentiles():
    image = decode_image(encode('.tif', TEN_BITS), PixelRange(in_percentiles=(25, 75)))
    assert (image == 0).mean() == pytest.approx(0.25, abs=0.01)
    assert (image == 255).mean() == pytest.approx(0.25, abs=0.01)
    flat = encode('.png', np.full((8, 8), 500, np.uint16))
    assert not decode_image(flat, PixelRange(in_percentiles=(0, 100))).any()


def test_eight_bits_are_left_alone_by_a_range():
    assert np.array_equal(decode_image(PLAIN['png'], PixelRange(in_range=(0, 1023))), COLOR)


@pytest.mark.parametrize('extension', ['.png', '.tif'])
def test_extra_channels_can_be_dropped(extension):
    image = decode_image(encode(extension, BANDS), PixelRange(extra_channels='drop'))
    assert np.array_equal(image, COLOR)


@pytest.mark.parametrize('kind', ['jpeg', 'png', 'webp'])
def test_one_rule_of_orientation(kind):
    image = Image.fromarray(COLOR)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    file = BytesIO()
    image.save(file, kind, exif=exif)
    assert decode_image(file.getvalue()).shape == (48, 56, 3)
    if kind != 'webp':  # which OpenCV does not turn
        assert decode_image(file.getvalue(), color_type='color').shape == (56, 48, 3)


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(in_range=(5, 5)), r'in_range must be \(low, high\)'),
        (dict(in_range=(1, 2, 3)), 'in_range must be'),
        (dict(in_percentiles=(-1, 99)), 'in 0 to 100'),
        (dict(in_range=(0, 1), in_percentiles=(1, 99)), 'not both'),
        (dict(extra_channels='keep'), "'raise' or 'drop'"),
        (dict(ignore_empty=True), "on_error='skip'"),
    ],
)
def test_options_out_of_range(options, expected):
    with pytest.raises(ValueError, match=expected):
        LoadImage(**options)
