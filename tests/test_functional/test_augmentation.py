# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every operation against torchvision and Pillow, with the same parameters, on photographs.

Each is there twice: for batches on accelerators (which runs on the CPU too) and for 8-bit images.
"""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageFilter, ImageOps
from sklearn.datasets import load_sample_images
from torchvision import transforms
from torchvision.transforms import functional as pillow

from ibot_mm.functional import augmentation as A
from ibot_mm.functional.blur import gaussian_blur
from ibot_mm.functional.color_uint8 import normalize

JITTER = {
    A.BRIGHTNESS: pillow.adjust_brightness,
    A.CONTRAST: pillow.adjust_contrast,
    A.SATURATION: pillow.adjust_saturation,
    A.HUE: pillow.adjust_hue,
}


def by_batch(column, images, value):
    return A.BATCH_OPERATIONS[column](to_batch(images), torch.full((len(images),), value))


def by_image(column, images, value):
    planes = to_batch(images, torch.uint8).contiguous()
    for image in planes.numpy():
        A.IMAGE_OPERATIONS[column](image, value)
    return planes


def chain_by_batch(images, parameters):
    return A.augment_batch(to_batch(images), torch.from_numpy(parameters))


def chain_by_image(images, parameters):
    planes = to_batch(images, torch.uint8).contiguous()
    A.augment_images(planes.numpy(), parameters)
    return planes


both = pytest.mark.parametrize('apply', [by_batch, by_image])
both_chains = pytest.mark.parametrize('apply', [chain_by_batch, chain_by_image])


@pytest.fixture(scope='module')
def photographs():
    china, flower = load_sample_images().images
    astronaut = skimage.data.astronaut()
    pixels = [china[:160, 200:392], flower[100:260, 300:492], astronaut[:160, 100:292]]
    noise = np.random.default_rng(0).integers(0, 256, (160, 192, 3), dtype=np.uint8)
    return [np.ascontiguousarray(image) for image in (*pixels, noise)]


def to_batch(images, dtype=torch.float32):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(dtype)


def to_pixels(batch):
    return batch.permute(0, 2, 3, 1).numpy().astype(int)


def worst(batch, references):
    """Largest difference in levels; the results must be whole numbers 0 to 255."""
    assert (batch == batch.round()).all() and batch.min() >= 0 and batch.max() <= 255
    return np.abs(to_pixels(batch) - np.stack([np.asarray(image) for image in references])).max()


def row(**values):
    """One row of parameters that does nothing but what is named."""
    drawn = np.zeros(A.NUM_PARAMETERS, dtype=np.float32)
    drawn[:3], drawn[A.ORDER] = 1, -1
    for name, value in values.items():
        drawn[getattr(A, name)] = value  # ORDER takes four
    return drawn


@both
@pytest.mark.parametrize('factor', [0.0, 0.6, 0.83, 1.0, 1.17, 1.4, 2.0])
@pytest.mark.parametrize('column', [A.BRIGHTNESS, A.CONTRAST, A.SATURATION])
def test_factors_equal_torchvision(photographs, apply, column, factor):
    result = apply(column, photographs, factor)
    assert worst(result, [JITTER[column](Image.fromarray(x), factor) for x in photographs]) <= 1


@both
@pytest.mark.parametrize('factor', [-0.5, -0.1, -0.0513, 0.0, 0.02, 0.1, 0.37])
def test_hue_equals_torchvision(photographs, apply, factor):
    result = apply(A.HUE, photographs, factor)
    references = [pillow.adjust_hue(Image.fromarray(x), factor) for x in photographs]
    assert worst(result, references) <= 1


@both
@pytest.mark.parametrize('factor', [0.0, 0.07])
def test_hue_equals_torchvision_where_its_quantization_is_delicate(apply, factor):
    """All colors whose quantized hue lies on a boundary in exact arithmetic are among these."""
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing='ij'), -1).reshape(86, -1, 3)
    result = apply(A.HUE, [grid], factor)
    assert worst(result, [pillow.adjust_hue(Image.fromarray(grid), factor)]) <= 1


@pytest.mark.parametrize('radius', [0.1, 0.3, 0.5, 0.7, 1.0, 1.41, 1.42, 1.8, 2.0, 5.3])
def test_blur_equals_pillow(photographs, radius):
    kernel = ImageFilter.GaussianBlur(radius)
    references = [Image.fromarray(x).filter(kernel) for x in photographs]
    assert worst(by_batch(A.BLUR_RADIUS, photographs, radius), references) == 0
    # Sums of simple weights lie half-way between two levels; OpenCV rounds half of them otherwise.
    assert worst(by_image(A.BLUR_RADIUS, photographs, radius), references) <= 2


def test_blur_of_drawn_radii_is_within_a_level_of_pillow(photographs):
    differing = 0
    for radius in np.random.default_rng(0).uniform(0.1, 2, 40).astype(np.float32).tolist():
        kernel = ImageFilter.GaussianBlur(radius)
        reference = np.stack([np.asarray(Image.fromarray(x).filter(kernel)) for x in photographs])
        result = to_pixels(by_image(A.BLUR_RADIUS, photographs, radius))
        assert np.abs(result - reference).max() <= 1
        differing += (result != reference).mean() / 40
    assert differing < 1e-3


def test_blur_takes_a_radius_per_image(photographs):
    radius = [0.3, 1.9, 0.8, 5.2]
    result = gaussian_blur(to_batch(photographs), torch.tensor(radius))
    references = [
        Image.fromarray(x).filter(ImageFilter.GaussianBlur(r)) for x, r in zip(photographs, radius)
    ]
    assert worst(result, references) == 0


@both
def test_gray_and_solarize_equal_pillow(photographs, apply):
    images = [Image.fromarray(x) for x in photographs]
    gray = apply(A.GRAY, photographs, 1.0)
    assert worst(gray, [pillow.to_grayscale(x, 3) for x in images]) == 0
    assert worst(apply(A.SOLARIZE, photographs, 1.0), [ImageOps.solarize(x) for x in images]) == 0


@both
@pytest.mark.parametrize('size', [(1, 1), (1, 9), (3, 2)])
def test_tiny_images(apply, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    result = apply(A.BLUR_RADIUS, [pixels], 1.7)
    assert worst(result, [image.filter(ImageFilter.GaussianBlur(1.7))]) <= 1
    assert worst(apply(A.HUE, [pixels], 0.1), [pillow.adjust_hue(image, 0.1)]) <= 1


@both_chains
def test_each_column_drives_its_operation(photographs, apply):
    image = Image.fromarray(photographs[0])
    cases = {
        'nothing': (row(), image),
        'factor without a place in the order': (row(BRIGHTNESS=1.3), image),
        'brightness': (
            row(BRIGHTNESS=1.3, ORDER=[0, -1, -1, -1]),
            pillow.adjust_brightness(image, 1.3),
        ),
        'contrast': (row(CONTRAST=0.7, ORDER=[-1, -1, 1, -1]), pillow.adjust_contrast(image, 0.7)),
        'saturation': (
            row(SATURATION=1.2, ORDER=[2, 0, 1, 3]),
            pillow.adjust_saturation(image, 1.2),
        ),
        'hue': (row(HUE=-0.08, ORDER=[3, -1, -1, -1]), pillow.adjust_hue(image, -0.08)),
        'gray': (row(GRAY=1), pillow.to_grayscale(image, 3)),
        'blur': (row(BLUR_RADIUS=1.1), image.filter(ImageFilter.GaussianBlur(1.1))),
        'solarize': (row(SOLARIZE=1), ImageOps.solarize(image)),
    }
    for name, (parameters, reference) in cases.items():
        assert worst(apply(photographs[:1], parameters[None]), [reference]) <= 1, name


def published(image, parameters):
    """The whole chain of the published code for one drawn row."""
    for code in parameters[A.ORDER]:
        if code >= 0:
            image = JITTER[int(code)](image, float(parameters[int(code)]))
    if parameters[A.GRAY]:
        image = pillow.to_grayscale(image, 3)
    if parameters[A.BLUR_RADIUS] > 0:
        image = image.filter(ImageFilter.GaussianBlur(float(parameters[A.BLUR_RADIUS])))
    return ImageOps.solarize(image) if parameters[A.SOLARIZE] else image


def draw(number, seed, **changes):
    policy = A.AugmentationPolicy(solarize_prob=0.3, **changes)
    return A.sample_parameters(np.stack([policy.as_row()] * number), np.random.default_rng(seed))


@both_chains
def test_whole_chain_equals_pillow(photographs, apply):
    """Differences of one level before the hue can move its 8-bit value, hence the mean."""
    parameters = draw(60, seed=3)
    images = [photographs[i % 4] for i in range(60)]
    result = apply(images, parameters)
    references = [published(Image.fromarray(x), p) for x, p in zip(images, parameters)]
    difference = np.abs(to_pixels(result) - np.stack([np.asarray(x) for x in references]))
    assert (difference > 2).mean() < 1e-3
    assert difference.mean() < 0.05


def test_both_chains_are_equal(photographs):
    """Whether workers, preprocessor on a CPU or on an accelerator: only the blur may differ."""
    images = [photographs[i % 4] for i in range(120)]
    for parameters, largest in ((draw(120, 1), 1), (draw(120, 2, blur_prob=0.0), 0)):
        by_image = to_pixels(chain_by_image(images, parameters))
        difference = np.abs(by_image - to_pixels(chain_by_batch(images, parameters)))
        assert difference.max() <= largest
        assert (difference > 0).mean() < 1e-4


@both_chains
def test_batch_equals_one_by_one(photographs, apply):
    parameters = draw(40, seed=0)
    images = [photographs[i % 4][:32] for i in range(40)]
    together = apply(images, parameters)
    alone = [apply(images[i : i + 1], parameters[i : i + 1]) for i in range(40)]
    assert (together == torch.cat(alone)).all()


def test_in_place_on_the_cpu(photographs):
    parameters = draw(4, seed=1)
    images = to_batch(photographs, torch.uint8).contiguous()
    A.apply_augmentation(images, torch.from_numpy(parameters))
    assert (images == chain_by_image(photographs, parameters)).all()


def test_host_never_waits_for_the_device():
    """Meta tensors have no values: reading one, which would wait for it, is an error."""
    images = torch.empty(30, 3, 16, 16, dtype=torch.uint8, device='meta')
    parameters = draw(30, seed=1)
    active = parameters[:, [A.ORDER.start, A.GRAY, A.BLUR_RADIUS, A.SOLARIZE]] > 0
    assert active.any(0).all()  # everything happens
    A.apply_augmentation(images, torch.from_numpy(parameters))


def test_normalize(photographs):
    mean, std = (np.array(x, dtype=np.float32) for x in ([123.7, 116.3, 103.5], [58, 57, 56]))
    images = to_batch(photographs, torch.uint8).contiguous()
    expected = (images.float() - torch.from_numpy(mean)[:, None, None]) / torch.from_numpy(std)[
        :, None, None
    ]
    assert (torch.from_numpy(normalize(images.numpy(), mean, std)) == expected).all()


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (torch.zeros(2, 3, 8, 8).long(), r'uint8 images .* got torch.int64 \(2, 3, 8, 8\)'),
        (
            torch.zeros(3, 8, 8, dtype=torch.uint8),
            r'\(N, C, H, W\), .* got torch.uint8 \(3, 8, 8\)',
        ),
        (torch.zeros(3, 8, 8, 3, dtype=torch.uint8).permute(0, 3, 1, 2), 'with strides'),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r'\(2, 11\), one row .* got \(3, 11\)'),
    ],
)
def test_images_and_parameters_are_checked(images, message):
    with pytest.raises(ValueError, match=message):
        A.apply_augmentation(images, torch.zeros(3, 11))


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        (dict(brightness=1.5), 'brightness must be between 0 and 1.0, got 1.5'),
        (dict(hue=0.6), 'hue must be between 0 and 0.5'),
        (dict(gray_prob=-0.1), 'gray_prob must be between 0 and 1'),
        (dict(blur_radius=(2.0, 0.1)), 'blur_radius must be'),
    ],
)
def test_policies_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        A.AugmentationPolicy(**values)


@pytest.fixture(scope='module')
def drawn():
    rng = np.random.default_rng(0)
    policies = dict(first=A.GLOBAL_FIRST, rest=A.GLOBAL_REST, local=A.LOCAL)
    return {
        name: A.sample_parameters(np.stack([policy.as_row()] * 20000), rng)
        for name, policy in policies.items()
    }


@pytest.mark.parametrize(
    ('kind', 'blur', 'solarized'), [('first', 1.0, 0.0), ('rest', 0.1, 0.2), ('local', 0.5, 0.0)]
)
def test_probabilities(drawn, kind, blur, solarized):
    rows = drawn[kind]
    assert abs((rows[:, A.ORDER.start] >= 0).mean() - 0.8) < 0.015
    assert abs(rows[:, A.GRAY].mean() - 0.2) < 0.015
    assert abs((rows[:, A.BLUR_RADIUS] > 0).mean() - blur) < 0.015
    assert abs(rows[:, A.SOLARIZE].mean() - solarized) < 0.015


@pytest.mark.parametrize(
    ('column', 'low', 'high'),
    [
        (A.BRIGHTNESS, 0.6, 1.4),
        (A.CONTRAST, 0.6, 1.4),
        (A.SATURATION, 0.8, 1.2),
        (A.HUE, -0.1, 0.1),
        (A.BLUR_RADIUS, 0.1, 2.0),
    ],
)
def test_factors_are_uniform(drawn, column, low, high):
    values = np.sort(drawn['first'][:, column])
    assert low <= values[0] and values[-1] <= high + 1e-6
    expected = np.linspace(low, high, len(values))
    assert np.abs(values - expected).max() < 0.02 * (high - low)  # Kolmogorov-Smirnov at p ~ 1e-6


def test_factors_have_few_bits(drawn):
    """So that float32 arithmetic is exact, in any order."""
    steps = drawn['rest'][:, :4] * 2**14
    assert (steps == steps.round()).all()


def test_order_is_a_uniform_permutation(drawn):
    order = drawn['local'][:, A.ORDER]
    jittered = order[order[:, 0] >= 0]
    assert (np.sort(jittered) == np.arange(4)).all()
    assert (order[order[:, 0] < 0] == -1).all()
    permutations, counts = np.unique(jittered, axis=0, return_counts=True)
    assert len(permutations) == 24
    assert np.abs(counts / len(jittered) - 1 / 24).max() < 0.008


def test_draws_are_independent(drawn):
    columns = drawn['rest'][:, [0, 1, 2, 3, A.GRAY, A.BLUR_RADIUS, A.SOLARIZE]]
    correlation = np.corrcoef(columns, rowvar=False) - np.eye(7)
    assert np.abs(correlation).max() < 0.03


def test_statistics_of_the_images_equal_those_of_torchvision(photographs):
    """Brightness, saturation, hue and sharpness of many augmented crops, ours and published."""
    number, image = 400, photographs[1][:48, :48]
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    chain = transforms.Compose(
        [
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            lambda x: (
                x.filter(ImageFilter.GaussianBlur(rng.uniform(0.1, 2))) if rng.random() < 0.5 else x
            ),
        ]
    )
    reference = np.stack([np.asarray(chain(Image.fromarray(image))) for _ in range(number)])
    parameters = A.sample_parameters(np.stack([A.LOCAL.as_row()] * number), rng)
    ours = chain_by_image([image] * number, parameters)

    def statistics(pixels):
        pixels = pixels.astype(float)
        spread = pixels.max(-1) - pixels.min(-1)
        edges = np.abs(np.diff(pixels, axis=1))
        red, green, blue = pixels.mean((1, 2)).T
        hue = np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue)
        return [*[x.reshape(number, -1).mean(1) for x in (pixels, spread, edges)], hue]

    for mine, theirs in zip(statistics(to_pixels(ours)), statistics(reference)):
        error = np.hypot(mine.std(), theirs.std()) / np.sqrt(number)
        assert abs(mine.mean() - theirs.mean()) < 4 * error
        assert 0.8 < mine.std() / theirs.std() < 1.25


def test_draws_follow_the_global_seed():
    rows = np.stack([A.LOCAL.as_row()] * 5)
    np.random.seed(3)
    first = A.sample_parameters(rows)
    np.random.seed(3)
    assert (A.sample_parameters(rows) == first).all()
    assert (A.sample_parameters(rows) != first).any()
