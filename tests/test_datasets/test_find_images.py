# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import os

import cv2
import numpy as np
import pytest

from ibot_mm.datasets.find_images import EXTENSIONS, find_images
from ibot_mm.datasets.transforms import LoadImage

FLOATS = ('.pfm', '.hdr')


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b'')


@pytest.mark.parametrize('extension', EXTENSIONS)
def test_what_is_found_can_be_decoded(tmp_path, extension):
    pixels = np.full((32, 32, 3), 200, np.uint8)
    if extension in ('.pgm', '.pbm'):
        pixels = pixels[..., 0]
    written = dict([('.jfif', '.jpg')]).get(extension, extension)
    ok, content = cv2.imencode(written, pixels.astype('f4') if extension in FLOATS else pixels)
    assert ok
    (tmp_path / f'a{extension.upper()}').write_bytes(content.tobytes())
    (name,) = find_images(str(tmp_path)).images
    options = dict(in_range=(0, 255)) if extension in FLOATS else {}
    image = LoadImage(**options)(dict(img_path=str(tmp_path / name)))['img']
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8
    coarse = extension in ('.pbm', '.gif')  # two colors, 256 colors
    assert coarse or np.abs(image.astype(int) - 200).max() <= 2


def test_names_of_all_kinds(tmp_path):
    good = ['a.jpg', 'b.JPEG', 'c/d.TIF', 'c/e.tiff', 'f.webp', 'g.jp2', 'h.Png']
    touch(tmp_path, *good, 'notes.txt', 'README', '.DS_Store', 'c/._d.TIF', 'x.tar.gz')
    found = find_images(str(tmp_path))
    assert found.images == sorted(good)
    assert found.passed_over == {'hidden': 2, '.txt': 1, 'without extension': 1, '.gz': 1}
    assert str(found).startswith('7 images, 5 other files passed over (2 hidden, ')


def test_hidden_folders_are_left_out(tmp_path):
    touch(tmp_path, 'a/1.jpg', '.thumbnails/2.jpg', 'a/.ipynb_checkpoints/3.jpg')
    found = find_images(str(tmp_path))
    assert (found.images, found.hidden_folders, found.folders) == (['a/1.jpg'], 2, ['a'])
    assert find_images(str(tmp_path / '.thumbnails')).images == ['2.jpg']  # asked for by name


def test_links_are_visited_once(tmp_path):
    root = tmp_path / 'root'
    touch(root, 'a/1.jpg', 'b/2.jpg')
    touch(tmp_path, 'elsewhere/3.jpg', 'beside.jpg')
    links = {
        'a/parent': root / 'a',
        'a/above': tmp_path,  # would find all that lies beside
        '0/again': root / 'b',
        'far': tmp_path / 'elsewhere',
        'farther': tmp_path / 'elsewhere',
        'gone': tmp_path / 'nothing',
        'one.jpg': root / 'a/1.jpg',
        'other.jpg': tmp_path / 'beside.jpg',
    }
    (root / '0').mkdir()
    for name, target in links.items():
        (root / name).symlink_to(target)
    found = find_images(str(root))
    assert found.images == ['a/1.jpg', 'b/2.jpg', 'far/3.jpg', 'other.jpg']
    assert found.passed_over == {'broken link': 1, 'second link': 1}


def test_relative_root_and_root_that_is_a_link(tmp_path, monkeypatch):
    touch(tmp_path, 'real/a/1.jpg')
    os.symlink(tmp_path / 'real', tmp_path / 'link')
    monkeypatch.chdir(tmp_path)
    for root in ('real', 'link', '.'):
        assert len(find_images(root).images) == 1
