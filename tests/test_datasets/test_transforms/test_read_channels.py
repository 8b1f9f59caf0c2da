# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images of any number of channels, of any type, from every kind of file, exactly as stored."""

import sys
from io import BytesIO

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from ibot_mm.datasets.transforms import LoadImage
from ibot_mm.datasets.transforms.image_errors import UnsupportedImageError
from ibot_mm.datasets.transforms.read_channels import read_channels

RNG = np.random.default_rng(0)
TYPES = ('uint8', 'uint16', 'int16', 'float32')


def pixels_of(channels, dtype='uint16', size=(24, 32)):
    if dtype == 'float32':
        return RNG.normal(size=(*size, channels)).astype('f4')
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, (*size, channels), endpoint=True).astype(dtype)


def tiff(array, **options):
    file = BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def npy(array):
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def encode(extension, pixels):
    ok, content = cv2.imencode(extension, pixels)
    assert ok
    return content.tobytes()


def planes(pixels):
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


TIFFS = {  # layout -> file of pixels (H, W, C)
    'bands of a pixel together': lambda p: tiff(p, photometric='minisblack', planarconfig='contig'),
    'bands apart': lambda p: tiff(planes(p), photometric='minisblack', planarconfig='separate'),
    'pages': lambda p: tiff(planes(p), photometric='minisblack'),
    'tiles, deflated': lambda p: tiff(
        p, photometric='minisblack', planarconfig='contig', tile=(16, 16), compression='zlib'
    ),
    'big-endian': lambda p: tiff(p, photometric='minisblack', planarconfig='contig', byteorder='>'),
    '64-bit offsets': lambda p: tiff(planes(p), photometric='minisblack', bigtiff=True),
    'ImageJ': lambda p: tiff(planes(p), imagej=True),
    'OME': lambda p: tiff(planes(p), ome=True, metadata=dict(axes='CYX')),
}


@pytest.mark.parametrize('layout', TIFFS)
@pytest.mark.parametrize(
    ('channels', 'dtype'), [(2, 'int16'), (4, 'uint8'), (6, 'float32'), (16, 'uint16')]
)
def test_tiff(layout, channels, dtype):
    if layout == 'ImageJ' and dtype == 'int16':
        dtype = 'uint16'  # it has no others
    pixels = pixels_of(channels, dtype)
    read = read_channels(TIFFS[layout](pixels), channels)
    assert read.dtype.newbyteorder('=') == pixels.dtype and read.flags.c_contiguous
    assert np.array_equal(read, pixels)


def test_tiff_of_one_channel():
    pixels = pixels_of(1)
    assert np.array_equal(read_channels(tiff(pixels[..., 0]), 1), pixels)


def test_color_tiff_keeps_its_order():
    pixels = pixels_of(3)
    assert np.array_equal(read_channels(tiff(pixels, photometric='rgb'), 3), pixels)


def test_smaller_copies_in_a_tiff_are_left_out():
    """As GDAL and cameras store them."""
    pixels, file = pixels_of(5), BytesIO()
    plain = dict(photometric='minisblack', planarconfig='contig', metadata=None)
    with tifffile.TiffWriter(file) as writer:
        writer.write(pixels, **plain)
        writer.write(pixels[::2, ::2], subfiletype=1, **plain)
    assert np.array_equal(read_channels(file.getvalue(), 5), pixels)


def test_inverted_gray_tiff():
    pixels = pixels_of(1)[..., 0]
    content = tiff(pixels, photometric='miniswhite')
    assert np.array_equal(read_channels(content, 1)[..., 0], 65535 - pixels)


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('channels', [1, 6, 16])
@pytest.mark.parametrize('axis', [-1, 0])
def test_numpy(dtype, channels, axis):
    pixels = pixels_of(channels, dtype)
    read = read_channels(npy(np.moveaxis(pixels, -1, axis)), channels, axis)
    assert read.dtype == pixels.dtype and np.array_equal(read, pixels)
    if channels == 1:
        assert np.array_equal(read_channels(npy(pixels[..., 0]), 1), pixels)


@pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [1, 3, 4])
@pytest.mark.parametrize('extension', ['.png', '.tif'])
def test_color_is_rgb(dtype, channels, extension):
    if extension == '.tif':
        pytest.importorskip('imagecodecs')  # OpenCV compresses
    pixels = pixels_of(channels, dtype)
    order = [2, 1, 0, 3][:channels] if channels > 1 else [0]
    read = read_channels(encode(extension, pixels[..., order]), channels)
    assert read.dtype == pixels.dtype and np.array_equal(read, pixels)


def test_gray_png_with_alpha_has_two_channels():
    pixels, file = pixels_of(2, 'uint8'), BytesIO()
    Image.fromarray(pixels, 'LA').save(file, 'png')
    assert np.array_equal(read_channels(file.getvalue(), 2), pixels)


def test_jpeg():
    pixels = pixels_of(3, 'uint8')
    content = encode('.jpg', pixels)
    expected = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(read_channels(content, 3), expected)


def dicom(pixels, interpretation='MONOCHROME2', syntax=None, **elements):
    """A DICOM file of gray frames (H, W, F), or of color (H, W, 3)."""
    pydicom = pytest.importorskip('pydicom')
    color = interpretation == 'RGB'
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax or pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == 'i')
    dataset.SamplesPerPixel = 3 if color else 1
    dataset.PhotometricInterpretation = interpretation
    if color:
        dataset.PlanarConfiguration = 0
    elif pixels.shape[2] > 1:
        dataset.NumberOfFrames = pixels.shape[2]
    dataset.PixelData = (pixels if color else planes(pixels)).tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize(('frames', 'dtype'), [(1, 'uint8'), (1, 'int16'), (5, 'uint16')])
def test_dicom(frames, dtype):
    pixels = pixels_of(frames, dtype)
    assert np.array_equal(read_channels(dicom(pixels), frames), pixels)


def test_values_of_dicom_are_those_of_the_modality():
    """Hounsfield units of a CT; large ones are bright in any case; colors are RGB."""
    pixels = pixels_of(1, 'uint8').astype('u2')
    content = dicom(pixels, RescaleSlope=2, RescaleIntercept=-1024)
    assert np.array_equal(read_channels(content, 1), pixels * 2.0 - 1024)
    content = dicom(pixels.astype('u1'), interpretation='MONOCHROME1')
    assert np.array_equal(read_channels(content, 1), 255 - pixels.astype(int))
    color = pixels_of(3, 'uint8')
    assert np.array_equal(read_channels(dicom(color, 'RGB'), 3), color)


def test_channels_are_chosen_by_number():
    pixels = pixels_of(6)
    assert np.array_equal(read_channels(npy(pixels), [4, 0]), pixels[..., [4, 0]])


SIX = pixels_of(6)
UNFIT = {
    'fewer channels': (npy(SIX[..., :4]), 6, r'has 4 channels, not the 6.*channels=\[0\]'),
    'color': (encode('.png', SIX[..., :3]), 1, 'has 3 channels, not the 1'),
    'no such channel': (npy(SIX), [0, 6], r'has 6 channels, counted from 0.*number 6'),
    'channels first': (npy(planes(SIX)), 6, r'shape \(6, 24, 32\).*set LoadImage\(channel_axis=0'),
    'channels last': (npy(SIX), (6, 0), r'channel_axis=-1\)'),
    'an array in four dimensions': (npy(SIX[None]), 6, r'shape \(1, 24, 32, 6\)'),
    'complex numbers': (npy(SIX + 1j), 6, 'complex128'),
    'time': (tiff(np.stack([planes(SIX)] * 2), ome=True, metadata=dict(axes='TCYX')), 6, 'TCYX'),
    'bits': (tiff(SIX[..., 0] > 9, photometric='minisblack'), 1, '1 bits a value'),
    'palette': (
        tiff(SIX[..., 0].astype('u1'), photometric='palette',
             colormap=np.zeros((3, 256), 'u2')), 1, 'palette'),
}  # fmt: skip


@pytest.mark.parametrize('name', UNFIT)
def test_what_is_not_read_as_it_is_set(name):
    content, channels, expected = UNFIT[name]
    channels, axis = channels if isinstance(channels, tuple) else (channels, -1)
    with pytest.raises(UnsupportedImageError, match=expected):
        read_channels(content, channels, axis)


def test_pages_of_unlike_types():
    file = BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(SIX[..., 0], photometric='minisblack', metadata=None)
        writer.write(SIX[..., 1].astype('f4'), photometric='minisblack', metadata=None)
    with pytest.raises(UnsupportedImageError, match='pages are not alike, uint16.*float32'):
        read_channels(file.getvalue(), 2)


BROKEN = {
    'empty': b'',
    'text': b'not an image',
    'half a tiff': TIFFS['pages'](SIX)[:4000],
    'half a compressed tiff': TIFFS['tiles, deflated'](SIX)[:4000],
    'half an array': npy(SIX)[:4000],
    'half a png': encode('.png', SIX[..., :3])[:2000],
    'objects': npy(np.array([dict()])),
    'not a number': npy(np.where(SIX > 60000, np.nan, SIX)),
}


@pytest.mark.parametrize('name', BROKEN)
def test_broken_files_are_named(name, tmp_path):
    """And skipped, where broken files are to be."""
    (tmp_path / 'image').write_bytes(BROKEN[name])
    results = dict(img_path=str(tmp_path / 'image'))
    load = LoadImage(channels=6, in_range=(0, 1))
    with pytest.raises(RuntimeError, match=str(tmp_path / 'image')) as error:
        load(results)
    assert not isinstance(error.value, UnsupportedImageError)
    assert LoadImage(channels=6, in_range=(0, 1), on_error='skip')(results) is None


@pytest.mark.parametrize(
    ('module', 'content', 'kind'),
    [('tifffile', tiff(SIX), 'a TIFF'), ('pydicom', bytes(128) + b'DICM', 'a DICOM file')],
)
def test_a_missing_reader_names_the_extra(module, content, kind, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedImageError, match=rf'{kind}, which needs {module}.*\[sensors\]'):
        read_channels(content, 6)


def test_a_missing_codec_names_the_extra(monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, 'asarray', fail)
    with pytest.raises(UnsupportedImageError, match=r'LZW.*pip install.*\[sensors\]'):
        read_channels(tiff(SIX[..., 0]), 1)


@pytest.fixture
def path(tmp_path):
    def write(pixels):
        np.save(tmp_path / 'image.npy', pixels)
        return dict(img_path=str(tmp_path / 'image.npy'))

    return write


def test_one_scale(path):
    """0 to 255: whole numbers, or with the steps between them."""
    levels = np.linspace(0, 10000, 24 * 32).reshape(24, 32, 1).astype('u2')
    exact = levels / 10000 * 255
    rounded = LoadImage(channels=1, in_range=(0, 10000))(path(levels))
    assert rounded['img'].dtype == np.uint8 and rounded['img_shape'] == (24, 32)
    assert np.array_equal(rounded['img'], exact.round())
    image = LoadImage(channels=1, in_range=(0, 10000), to_float32=True)(path(levels))['img']
    assert image.dtype == np.float32 and len(np.unique(image)) == len(np.unique(levels))
    np.testing.assert_allclose(image, exact, rtol=1e-6)
    assert (
        LoadImage(channels=1, in_range=(0, 99), to_float32=True)(path(levels))['img'].max() == 255
    )
    eight = (levels % 256).astype('u1')
    assert np.array_equal(LoadImage(channels=1)(path(eight))['img'], eight)
    assert LoadImage(channels=1, to_float32=True)(path(eight))['img'].dtype == np.float32


def test_steps_are_kept_of_rgb_too(tmp_path):
    pixels = pixels_of(3)
    (tmp_path / 'image.png').write_bytes(encode('.png', pixels))
    load = LoadImage(in_range=(0, 65535), to_float32=True)
    image = load(dict(img_path=str(tmp_path / 'image.png')))['img']
    np.testing.assert_allclose(image, pixels / 257, rtol=1e-6)


def test_a_range_for_each_channel(path):
    pixels = np.dstack([pixels_of(1)[..., 0] % 1000.0, RNG.normal(-12, 3, (24, 32))])
    ranges = [(0, 1000), (-30, 0)]
    image = LoadImage(channels=2, in_range=ranges, to_float32=True)(path(pixels))['img']
    expected = [(pixels[..., i] - low) / (high - low) * 255 for i, (low, high) in enumerate(ranges)]
    np.testing.assert_allclose(image, np.dstack(expected).clip(0, 255), rtol=1e-5)


def test_percentiles_of_each_channel(path):
    pixels = pixels_of(4) * np.array([1.0, 10, 100, 0])
    image = LoadImage(channels=4, in_percentiles=(25, 75))(path(pixels))['img']
    for channel in range(3):
        assert (image[..., channel] == 0).mean() == pytest.approx(0.25, abs=0.01)
        assert (image[..., channel] == 255).mean() == pytest.approx(0.25, abs=0.01)
    assert not image[..., 3].any()  # flat


@pytest.mark.parametrize(
    ('content', 'expected'),
    [(npy(SIX), 'a NumPy array.*channels='), (bytes(128) + b'DICM', 'a DICOM file.*channels=')],
)
def test_other_kinds_need_channels(content, expected, tmp_path):
    (tmp_path / 'image').write_bytes(content)
    with pytest.raises(UnsupportedImageError, match=expected):
        LoadImage()(dict(img_path=str(tmp_path / 'image')))


def test_more_bits_need_a_range(path):
    with pytest.raises(UnsupportedImageError, match='uint16, here .*in_range='):
        LoadImage(channels=6)(path(SIX))


@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        (dict(channels=0), 'at least 1'),
        (dict(channels=[]), 'list of those to read'),
        (dict(channels=[0, -1]), r'counted from 0, got \[0, -1\]'),
        (dict(channels=True), 'channels must be'),
        (dict(channels=4, channel_axis=1), 'channel_axis must be -1 or 0, got 1'),
        (dict(channels=4, in_range=[(0, 1), (0, 2)]), '2 pairs for 4 channels'),
        (dict(channels=2, in_range=[(0, 1), (2, 2)]), r'in_range must be \(low, high\)'),
        (dict(in_range=[(0, 1), (0, 2)]), 'channels=2'),
        (dict(channels=4, extra_channels='drop'), 'do not go with channels'),
        (dict(channels=3, color_type='color'), 'do not go with channels'),
    ],
)
def test_options(options, expected):
    with pytest.raises(ValueError, match=expected):
        LoadImage(**options)
