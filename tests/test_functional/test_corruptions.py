# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The corruptions of ImageNet-C: each against what it says, on photographs."""

import colorsys
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from ibot_mm.functional.corruptions import CORRUPTIONS, SEVERITIES, blur, corrupt, weather

RANDOM = [
    name
    for name in CORRUPTIONS
    if name not in ('defocus_blur', 'zoom_blur', 'brightness', 'contrast', 'pixelate')
    and name not in ('jpeg_compression', 'gaussian_blur', 'saturate')
]


@pytest.fixture(scope='module')
def photographs():
    """Of 224 pixels, uint8 RGB."""
    from ibot_mm.datasets.demo import load_photographs

    found = {photograph.name: photograph.image for photograph in load_photographs('train')}
    images = [found[name] for name in ('astronaut', 'chelsea', 'coffee')]
    squares = [image[: min(image.shape[:2]), : min(image.shape[:2])] for image in images]
    return [cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA) for image in squares]


def change(image, corrupted):
    return float(np.abs(corrupted.astype(float) - image).mean())


def plain(value=0.5, shape=(40, 40)):
    return np.full((*shape, 3), value)


def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_the_worst_severity_changes_more_than_the_first(name, photographs):
    # The first two severities of this one move all of the image far, the others each pixel.
    first = 3 if name == 'elastic_transform' else 1
    changes = {
        severity: np.mean([change(i, corrupt(i, name, severity)) for i in photographs])
        for severity in (first, 5)
    }
    assert changes[5] > 1.1 * changes[first] > 0


@pytest.mark.parametrize('name', CORRUPTIONS)
@pytest.mark.parametrize('shape', [(32, 32), (40, 64), (300, 250)])
def test_other_sizes(name, shape, photographs):
    image = cv2.resize(photographs[0], shape[::-1], interpolation=cv2.INTER_AREA)
    for severity in SEVERITIES:
        corrupted = corrupt(image, name, severity)
        assert corrupted.shape == image.shape and corrupted.dtype == np.uint8
        assert 0 < change(image, corrupted) < 128


@pytest.mark.parametrize('name', CORRUPTIONS)
def test_random_numbers_are_those_of_the_image(name, photographs):
    image = photographs[0][:64, :64]
    first = corrupt(image, name, 3, seed=1, number=7)
    assert np.array_equal(first, corrupt(image, name, 3, seed=1, number=7))
    for other in (dict(seed=2, number=7), dict(seed=1, number=8)):
        assert np.array_equal(first, corrupt(image, name, 3, **other)) == (name not in RANDOM)


@pytest.mark.parametrize(
    'name', ['defocus_blur', 'glass_blur', 'motion_blur', 'zoom_blur', 'gaussian_blur', 'contrast',
             'elastic_transform', 'pixelate'],
)  # fmt: skip
def test_what_blurs_or_distorts_leaves_one_color_as_it_is(name):
    image = np.full((64, 64, 3), 100, dtype=np.uint8)
    for severity in SEVERITIES:
        assert change(image, corrupt(image, name, severity)) < 0.01


@pytest.mark.parametrize('severity', SEVERITIES)
def test_noise_has_its_strength(severity):
    image, random = plain(shape=(150, 150)), generator()
    expected = dict(
        gaussian_noise=(0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1],
        speckle_noise=0.5 * (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1],
        shot_noise=(0.5 / (60, 25, 12, 5, 3)[severity - 1]) ** 0.5,
    )
    for name, deviation in expected.items():
        noisy = CORRUPTIONS[name](image, severity, random)
        assert noisy.std() == pytest.approx(deviation, rel=0.02)
        assert noisy.mean() == pytest.approx(0.5, abs=0.01)
    noisy = CORRUPTIONS['impulse_noise'](image, severity, random)
    share = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    assert (noisy != 0.5).mean() == pytest.approx(share, rel=0.05)
    assert (noisy == 0).mean() == pytest.approx(share / 2, rel=0.1)
    assert (noisy == 1).mean() == pytest.approx(share / 2, rel=0.1)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_gaussian_blur_is_that_of_scipy(severity, photographs):
    sigma = (1, 2, 3, 4, 6)[severity - 1]
    expected = gaussian_filter(photographs[0] / 255, (sigma, sigma, 0), mode='nearest')
    found = CORRUPTIONS['gaussian_blur'](photographs[0] / 255, severity, generator())
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_a_point_out_of_focus_is_a_disk(severity):
    image = np.zeros((224, 224, 3))
    image[112, 112] = 1
    disk = CORRUPTIONS['defocus_blur'](image, severity, generator())[..., 0]
    radius = (3, 4, 6, 8, 10)[severity - 1]
    assert (disk > disk.max() / 2).sum() == pytest.approx(np.pi * radius**2, rel=0.12)
    np.testing.assert_allclose(disk[1:, 1:], disk[1:, 1:].T, atol=1e-12)


def test_a_point_in_motion_is_a_line_that_fades():
    image = np.zeros((224, 224, 3))
    image[112, 112] = 1
    line = blur.along_line(image, 10, 3, 0)[..., 0]
    assert set(np.nonzero(line > 1e-9)[0]) == {112} and line.sum() == pytest.approx(1)
    weights = np.exp(-(np.arange(21) ** 2) / 18)
    np.testing.assert_allclose(line[112, 112:91:-1], weights / weights.sum(), atol=1e-9)
    assert set(np.nonzero(blur.along_line(image, 10, 3, -90) > 1e-9)[1]) == {112}


def test_pixels_behind_glass_come_from_near(monkeypatch):
    monkeypatch.setattr(blur, 'gaussian', lambda image, sigma: image)
    image = np.mgrid[:224, :224].transpose(1, 2, 0) / 224
    image = np.dstack([image, image[..., :1]])
    moved = 224 * (blur.glass_blur(image, 1, generator()) - image)
    assert np.abs(moved).max() < 12  # a value can be taken on by several pixels
    assert 0.5 < np.abs(moved[8:-8, 8:-8, :2]).mean() < 2
    assert len(np.unique(moved[..., 0])) > 2


def hsv(image):
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(-1, 3)])


@pytest.mark.parametrize('severity', SEVERITIES)
@pytest.mark.parametrize(
    'name, channel, settings',
    [
        ('brightness', 2, [(1, 0.1), (1, 0.2), (1, 0.3), (1, 0.4), (1, 0.5)]),
        ('saturate', 1, [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)]),
    ],
)
def test_value_and_saturation_change_alone(name, channel, settings, severity, photographs):
    image = photographs[1][::16, ::16] / 255
    image[0, :3] = [[0, 0, 0], [1, 1, 1], [0.4, 0.4, 0.4]]  # without hue
    expected = hsv(image)
    factor, summand = settings[severity - 1]
    expected[:, channel] = np.clip(expected[:, channel] * factor + summand, 0, 1)
    expected = np.array([colorsys.hsv_to_rgb(*pixel) for pixel in expected]).reshape(image.shape)
    np.testing.assert_allclose(CORRUPTIONS[name](image, severity, generator()), expected, atol=1e-9)


@pytest.mark.parametrize('severity', SEVERITIES)
def test_contrast_keeps_means_and_a_share_of_the_deviation(severity, photographs):
    image = photographs[0] / 255
    found = CORRUPTIONS['contrast'](image, severity, generator())
    np.testing.assert_allclose(found.mean((0, 1)), image.mean((0, 1)))
    share = (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1]
    np.testing.assert_allclose(found.std((0, 1)), share * image.std((0, 1)))


@pytest.mark.parametrize('severity', SEVERITIES)
def test_pixels_become_boxes(severity, photographs):
    boxes = int(224 * (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1])
    found = corrupt(photographs[0], 'pixelate', severity).astype(int)
    edges = np.abs(np.diff(found, axis=1)).sum(axis=(0, 2)) > 0
    assert edges.sum() >= boxes - 1  # every border of boxes is seen
    if 224 % boxes == 0:
        assert edges.sum() == boxes - 1


def test_compression_is_that_of_pillow(photographs):
    buffer = BytesIO()
    Image.fromarray(photographs[0]).save(buffer, 'JPEG', quality=7)
    assert np.array_equal(corrupt(photographs[0], 'jpeg_compression', 5), Image.open(buffer))
    darker = corrupt(photographs[0], 'contrast', 1)
    buffer = BytesIO()
    Image.fromarray(darker).save(buffer, 'JPEG', quality=85)
    found = corrupt(photographs[0], 'contrast', 1, jpeg_quality=85)
    assert np.array_equal(found, Image.open(buffer)) and not np.array_equal(found, darker)


@pytest.mark.parametrize('name, severity', [('snow', 5), ('fog', 5), ('frost', 5)])
def test_weather_veils_dark_images(name, severity):
    image = plain(0.05, (224, 224))
    image[0, 0] = 1
    veiled = np.clip(CORRUPTIONS[name](image, severity, generator()), 0, 1)
    assert veiled.mean() > image.mean() + 0.25 and veiled.std() > 0.02


@pytest.mark.parametrize('severity, color', [(3, [175, 238, 238]), (5, [63, 42, 20])])
def test_spatters_have_their_color(severity, color):
    image = plain(0.0 if severity < 4 else 1.0, (224, 224))
    spattered = weather.spatter(image, severity, generator())
    changed = np.abs(spattered - image).max(axis=2) > 0.01
    assert 0.02 < changed.mean() < 0.9
    color = np.array(color) / 255
    if severity < 4:  # added
        ratio = spattered[changed] / spattered[changed].max(axis=1, keepdims=True)
        np.testing.assert_allclose(ratio, np.broadcast_to(color / color.max(), ratio.shape))
    else:  # laid over
        darkest = spattered.reshape(-1, 3).min(axis=0)
        np.testing.assert_allclose(darkest, color, atol=0.05)


def test_a_cloud_is_rougher_with_less_decay():
    def roughness(decay):
        return np.mean(
            [np.abs(np.diff(weather.cloud((64, 64), decay, np.random.default_rng(i)))).mean()
             for i in range(5)]
        )  # fmt: skip

    assert roughness(1.2) > 1.5 * roughness(2)
    cloud = weather.cloud((50, 64), 2, generator())
    assert cloud.shape == (50, 64) and cloud.min() >= 0 and cloud.max() <= 1


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(name='hail'), "unknown corruption 'hail': choose from gaussian_noise, shot"),
        (dict(severity=0), 'one of 1 to 5, got 0'),
        (dict(severity=6), 'one of 1 to 5, got 6'),
        (dict(image=np.zeros((8, 8, 3))), 'uint8 image .* got float64'),
        (dict(image=np.zeros((8, 8), dtype=np.uint8)), r'got uint8 of \(8, 8\)'),
    ],
)
def test_bad_input_is_refused(changes, message):
    given = dict(image=np.zeros((8, 8, 3), dtype=np.uint8), name='fog', severity=1) | changes
    with pytest.raises(ValueError, match=message):
        corrupt(**given)
