# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
from PIL import Image

from ibot_mm.picture_files import find_pictures, read_picture, resize_picture, sample_views
from ibot_mm.visualization import Picture


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    for name, size in (('a/0.png', (40, 60)), ('a/1.png', (30, 30)), ('b/2.png', (50, 20))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / 'notes.txt').write_text('x')
    return tmp_path


def test_folders_and_files(folder):
    pictures = find_pictures([folder, folder / 'b/2.png'])
    assert list(pictures.paths) == ['a/0.png', 'a/1.png', 'b/2.png', '2.png']
    assert [picture.size for picture in pictures] == [(40, 60), (30, 30), (50, 20), (50, 20)]
    assert np.array_equal(pictures[0].pixels, np.array(Image.open(folder / 'a/0.png')))  # RGB
    assert [p.name for p in find_pictures([folder], number=2)] == ['a/0.png', 'b/2.png']
    assert [p.name for p in pictures[1:3]] == ['a/1.png', 'b/2.png']


@pytest.mark.parametrize(
    'size, center, expected',
    [
        (20, False, (20, 30)),
        ((16, 24), False, (16, 24)),
        (14, True, (14, 14)),
        (None, False, (40, 60)),
    ],
)
def test_sizes(folder, size, center, expected):
    picture = find_pictures([folder / 'a/0.png'], size, center=center)[0]
    assert picture.size == expected


def test_places_are_found_after_resizing_and_cropping(folder):
    path = folder / 'c.png'
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[40:44, 60:64] = 255
    Image.fromarray(pixels).save(path)
    for size, center in ((32, False), (28, True), ((32, 24), False)):
        picture = find_pictures([path], size, center=center)[0]
        x, y = picture.locate(61.5, 41.5)
        brightest = np.unravel_index(picture.pixels[..., 0].argmax(), picture.size)
        assert abs(brightest[0] + 0.5 - y) <= 1 and abs(brightest[1] + 0.5 - x) <= 1


def test_the_center_is_the_published_test_view(folder):
    picture = find_pictures([folder / 'a/0.png'], 28, center=True)[0]
    image = Image.open(folder / 'a/0.png').resize((48, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(picture.pixels, np.array(image.crop((10, 2, 38, 30))))


def test_wrong_sources(folder, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ValueError, match='no images in .*empty: 0 images'):
        find_pictures([tmp_path / 'empty'])
    with pytest.raises(ValueError, match='no images: give'):
        find_pictures([])
    with pytest.raises(FileNotFoundError, match='gone.png is not there: give image files'):
        find_pictures([folder / 'gone.png'])
    with pytest.raises(ValueError, match='cannot read image .*notes.txt'):
        read_picture(folder / 'notes.txt')
    with pytest.raises(ValueError, match='at least 1, got 0'):
        find_pictures([folder], number=0)
    with pytest.raises(ValueError, match='image_size must be one number'):
        find_pictures([folder], (8, 9), center=True)
    with pytest.raises(ValueError, match='from 1 on, got 0'):
        find_pictures([folder], 0)


def test_views_show_what_their_corners_say():
    """Colors tell the place: red grows downwards, green to the right."""
    rows, columns = np.mgrid[0:128, 0:192]
    pixels = np.stack([rows * 255 / 127, columns * 255 / 191, 0 * rows], axis=2).astype(np.uint8)
    flips = set()
    for seed in range(6):
        first, second, corners = sample_views(Picture('x', pixels), 32, seed, colors=False)
        for view, (top, left, bottom, right) in zip((first, second), corners.tolist()):
            assert view.size == (32, 32)
            flips.add(left > right)
            assert 0.35 < (bottom - top) * abs(right - left) <= 1
            for share, value in ((0.5 / 32, 0), (31.5 / 32, -1)):
                down, across = top + share * (bottom - top), left + share * (right - left)
                assert abs(view.pixels[value, 16, 0] / 255 - down) < 0.02
                assert abs(view.pixels[16, value, 1] / 255 - across) < 0.02
    assert flips == {True, False}


def test_views_repeat_and_leave_the_generator():
    picture = Picture('x', np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    np.random.seed(5)
    one, other = sample_views(picture, 16, 3), sample_views(picture, 16, 3)
    assert np.array_equal(one[0].pixels, other[0].pixels) and (one[2] == other[2]).all()
    drawn = np.random.random()
    np.random.seed(5)
    assert drawn == np.random.random()
    plain = sample_views(picture, 16, 3, colors=False)
    changed = [not np.array_equal(a.pixels, b.pixels) for a, b in zip(one[:2], plain[:2])]
    assert any(changed) and (one[2] == plain[2]).all()


def test_resize_leaves_what_has_no_size():
    picture = Picture('x', np.zeros((4, 5, 3), np.uint8))
    assert resize_picture(picture, None) is picture
