# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ibot_mm.datasets import ImageFolder
from ibot_mm.datasets.check_images import check_folder
from ibot_mm.datasets.transforms.pixel_range import PixelRange

TOP = Path(__file__).parents[2]
EXPECTED = {
    'a/deep.png': ['unsupported', 'deep'],
    'a/empty.jpg': ['broken'],
    'a/good.png': [],
    'a/gray.png': ['gray'],
    'b/again.png': ['duplicate'],
    'b/cmyk.jpg': ['CMYK'],
    'b/text.jpg': ['broken'],
    'b/tiny.png': ['tiny'],
    'b/turned.jpg': ['turned'],
}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / 'images'
    (root / 'a').mkdir(parents=True)
    (root / 'b').mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    good = Image.fromarray(pixels)
    good.save(root / 'a/good.png')
    good.save(root / 'b/again.png')
    good.convert('L').save(root / 'a/gray.png')
    good.convert('CMYK').save(root / 'b/cmyk.jpg')
    good.resize((40, 8)).save(root / 'b/tiny.png')
    exif = good.getexif()
    exif[0x0112] = 6
    good.save(root / 'b/turned.jpg', exif=exif)
    cv2.imwrite(str(root / 'a/deep.png'), pixels.astype(np.uint16) * 4)
    (root / 'a/empty.jpg').write_bytes(b'')
    (root / 'b/text.jpg').write_text('not an image')
    (root / 'notes.txt').write_text('')
    return root


@pytest.mark.parametrize('num_workers', [1, pytest.param(2, marks=pytest.mark.long)])
def test_report(folder, num_workers):
    report = check_folder(str(folder), num_workers=num_workers)
    assert {image.path: image.kinds for image in report.images} == EXPECTED
    assert report.counts['broken'] == 2 and report.found.passed_over == {'.txt': 1}
    assert report.clean == ['a/good.png', 'a/gray.png', 'b/cmyk.jpg', 'b/turned.jpg']
    reasons = {image.path: image.reason for image in report.images}
    assert 'in_range' in reasons['a/deep.png'] and reasons['a/empty.jpg'] == 'the file is empty'
    assert reasons['b/again.png'] == 'the same file as a/good.png'


def test_read_as_the_training_will(folder):
    report = check_folder(str(folder), min_size=1, num_workers=1, pixel_range=PixelRange((0, 1023)))
    assert {'a/deep.png', 'b/tiny.png'} <= set(report.clean)


@pytest.mark.slow
def test_tool_writes_a_list_to_train_on(folder, call, tmp_path):
    ann_file, out = tmp_path / 'clean.txt', tmp_path / 'report.json'
    result = call(
        'tools/dataset_converters/check_images.py', folder, '--num-workers', 1,
        '--ann-file', ann_file, '--out', out, '--with-label', may_fail=True,
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert 'clean: 4 of 9' in result.stdout and 'a/empty.jpg: the file is empty' in result.stdout
    dataset = ImageFolder(str(folder), ann_file=str(ann_file), with_label=True)
    assert list(dataset.get_gt_labels()) == [0, 0, 1, 1]
    assert json.loads(out.read_text())['counts']['broken'] == 2


def test_files_of_other_channels(call, tmp_path):
    """Read as the training will read them, by both tools."""
    rng = np.random.default_rng(0)
    for index in range(3):
        np.save(tmp_path / f'{index}.npy', rng.integers(0, 1000, (40, 40, 5 + index // 2)))
    options = [tmp_path, '--channels', 5, '--extensions', '.npy', '--in-range', 0, 1000]
    report = call(
        'tools/dataset_converters/check_images.py', *options, '--num-workers', 1, may_fail=True
    )
    assert 'clean: 2 of 3' in report.stdout and 'it has 6 channels, not the 5' in report.stdout
    tool = 'tools/dataset_converters/measure_channels.py'
    assert 'it has 6 channels' in call(tool, *options, may_fail=True).stderr
    (tmp_path / '2.npy').unlink()
    printed = call(tool, *options).stdout
    pixels = np.stack([np.load(tmp_path / f'{index}.npy') for index in range(2)]) * 0.255
    mean = ', '.join(str(round(value, 3)) for value in pixels.mean((0, 1, 2)))
    assert f'data_preprocessor=dict(mean=[{mean}]' in printed
    assert "LoadImage', channels=5, in_range=(0.0, 1000.0), to_float32=True)" in printed
    assert '--in-range' in call(tool, *options[:5]).stdout  # the first look
