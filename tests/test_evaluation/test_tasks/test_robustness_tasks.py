# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tasks of robustness on pieces of photographs, classified by their color."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ibot_mm.evaluation import Classifier, DataError, Options
from ibot_mm.evaluation.tasks import CHECKS, CLASS_CHECKS, TASKS
from ibot_mm.functional.corruptions import CORRUPTIONS, corrupt
from ibot_mm.functional.robustness import ALEXNET_ERRORS, imagenet9_groups

COLORS = ('n01_blue', 'n02_green', 'n03_red')  # in the order of BGR, as images come
SIZE = 32


def run(task, network, root, options, **settings):
    """Check, then measure; text of the settings -> metrics."""
    options = replace(options, tasks={task: settings})
    CHECKS[task](root, options)
    classifier = network.classifier
    CLASS_CHECKS[task](root, options, classifier.classes, classifier.image_size)
    return {
        ' '.join(value for value in m.setting.values() if isinstance(value, str)): m
        for m in TASKS[task](network, root, options)
    }


@pytest.fixture(scope='session')
def by_color(network):
    """The network, with a classifier that knows an image by its strongest channel.

    The first of its classes has no images.
    """

    def logits(images):
        means = images.mean(dim=(2, 3)).flip(1)  # RGB -> BGR
        return torch.cat([torch.full_like(means[:, :1], -9), 5 * means], dim=1)

    return replace(network, classifier=Classifier(logits, ('n00_other', *COLORS), SIZE))


@pytest.fixture(scope='session')
def paint(photographs):
    """Write pieces of photographs into class folders; a piece of class c is strong in color c."""

    def write(folder, classes=COLORS, number=4, wrong=0, size=SIZE, suffix='JPEG', seed=0):
        random = np.random.default_rng(seed)
        images = [photographs[name] for name in ('astronaut', 'chelsea', 'coffee', 'rocket')]
        for label, name in enumerate(classes):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                image = images[index % 4]
                top, left = random.integers(0, 60, 2)
                piece = image[top : top + 120, left : left + 120].mean(axis=2) / 3
                color = COLORS.index(name) if name in COLORS else label
                color += index < wrong
                tinted = np.repeat(piece[..., None], 3, axis=2)
                tinted[..., 2 - color % 3] += 120
                piece = Image.fromarray(tinted.astype(np.uint8)).resize((size, size))
                piece.save(folder / name / f'{index}.{suffix}', quality=95)
        return folder

    return write


@pytest.mark.parametrize('task', ['imagenet_a', 'imagenet_r'])
def test_classes_with_folders_alone_count(task, by_color, paint, options, tmp_path):
    (found,) = run(task, by_color, paint(tmp_path / 'a', wrong=1), options).values()
    assert found.setting == dict(images=12, classes=3) and found.metrics['top1'] == 75
    assert 0 < found.metrics['rms_calibration_error'] < 100

    def other(images):
        return by_color.classifier.logits(images) + torch.tensor([99.0, 0, 0, 0])

    first = replace(by_color, classifier=replace(by_color.classifier, logits=other))
    (found,) = run(task, first, paint(tmp_path / 'b', COLORS[1:]), options).values()
    assert found.setting == dict(images=8, classes=2)
    assert found.metrics['top1'] == found.metrics['aurra'] == 100


def test_the_last_bin_is_left_out_as_published_alone(by_color, paint, options, tmp_path):
    root = paint(tmp_path / 'a')
    first, published = (
        run('imagenet_a', by_color, root, options, bin_size=12, as_published=flag)['']
        for flag in (False, True)
    )
    assert first.metrics['rms_calibration_error'] > 0
    assert published.metrics['rms_calibration_error'] == 0  # the only bin
    assert first.metrics['top1'] == published.metrics['top1'] == 100


def test_corruptions_on_the_fly_and_from_disk_are_the_same(by_color, paint, options, tmp_path):
    clean = paint(tmp_path / 'clean/val', wrong=1, size=36, suffix='png')
    names, disk = ('contrast', 'gaussian_noise', 'saturate'), tmp_path / 'disk'
    for name in names:
        for severity in (2, 5):
            for number, path in enumerate(sorted(clean.glob('*/*.png'))):
                image = np.array(Image.open(path))[2:-2, 2:-2]
                folder = disk / 'group' / name / str(severity) / path.parent.name
                folder.mkdir(parents=True, exist_ok=True)
                made = corrupt(image, name, severity, 0, number)
                Image.fromarray(made).save(folder / f'{path.stem}.png')
    settings = dict(corruptions=list(names), severities=[2, 5], jpeg_quality=0)
    on_the_fly = run('imagenet_c', by_color, clean.parent, options, **settings)
    from_disk = run('imagenet_c', by_color, disk, options, **settings)
    assert on_the_fly['none'].metrics['error'] == 25
    assert on_the_fly.pop('none') and on_the_fly == from_disk
    errors = {name: on_the_fly[name].setting for name in names}
    assert errors['contrast']['s2'] == errors['contrast']['s5'] == 25  # means are kept
    assert errors['saturate']['s5'] == 25
    total = on_the_fly['']
    mean = np.mean([on_the_fly[name].metrics['error'] for name in names])
    assert total.metrics == dict(mean_error=pytest.approx(mean))  # no mCE of three
    assert total.setting == dict(images=12, corruptions=3)


def test_what_was_interrupted_goes_on(by_color, paint, options, tmp_path):
    root = paint(tmp_path / 'c/val', number=1).parent
    seen = []

    def counting(images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return by_color.classifier.logits(images)

    known = replace(by_color.classifier, logits=counting, key='these colors')
    network = replace(by_color, classifier=known)
    settings = dict(corruptions=['contrast', 'pixelate'], severities=[1, 5])
    with pytest.raises(KeyboardInterrupt):
        run('imagenet_c', network, root, options, **settings)
    found = run('imagenet_c', network, root, options, **settings)
    assert len(seen) == 3 + 3  # two were there; two and the clean images are new
    assert found == run('imagenet_c', by_color, root, options, **settings)
    for changes in (dict(seed=1), dict(jpeg_quality=50)):
        before = len(seen)
        run('imagenet_c', network, root, options, **settings, **changes)
        assert len(seen) == before + 4
    other = replace(network, classifier=replace(known, key='others'))
    run('imagenet_c', other, root, options, **settings)
    assert len(seen) == before + 4 + 5


@pytest.mark.slow
def test_mce_is_that_of_imagenet_alone(by_color, paint, options, tmp_path):
    root = paint(tmp_path / 'c/val', number=1).parent
    found = run('imagenet_c', by_color, root, options, severities=[1])
    assert len(found) == 2 + len(CORRUPTIONS) and 'mce' not in found[''].metrics
    classes = tuple(f'n{number:08d}' for number in range(1000))
    root = paint(tmp_path / 'imagenet/val', classes[:3], number=1).parent

    def wrong(images):
        return -torch.arange(1000.0).expand(len(images), 1000) - 0 * images.sum()

    imagenet = replace(by_color, classifier=Classifier(wrong, classes, SIZE))
    found = run('imagenet_c', imagenet, root, options)['']
    assert found.metrics['mean_error'] == pytest.approx(200 / 3)
    inverse = np.mean([1 / error for error in ALEXNET_ERRORS.values()])
    assert found.metrics['mce'] == pytest.approx(200 / 3 * inverse)


@pytest.fixture
def nine(paint, tmp_path):
    """Variants of which one is half wrong, masks and backgrounds."""
    root = tmp_path / 'nine'
    for variant in ('original', 'mixed_same', 'only_bg_t'):
        paint(root / variant / 'val', COLORS)
    paint(root / 'mixed_rand/val', COLORS, wrong=2)
    for path in (root / 'original/val').glob('*/*.JPEG'):
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[: SIZE if path.stem == '0' else 4] = True  # the first is all foreground
        folder = root / 'fg_mask/val' / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f'{path.stem}.npy', mask)
    return root


FOUR = ['original', 'mixed_same', 'mixed_rand', 'only_bg_t']


def of_groups(network):
    """Without the class that has no images."""
    known = network.classifier.logits
    classifier = Classifier(lambda images: known(images)[:, 1:], COLORS, SIZE)
    return replace(network, classifier=classifier)


def test_variants_of_imagenet9(nine, by_color, options):
    found = run('imagenet_9', of_groups(by_color), nine, options, variants=FOUR)
    accuracies = {name: m.metrics.get('top1') for name, m in found.items()}
    assert accuracies == dict(original=100, mixed_same=100, mixed_rand=50, only_bg_t=100) | {
        '': None
    }
    assert found[''].metrics == dict(background_gap=50)
    (nine / 'in_to_in9.json').write_text(json.dumps({'0': -1, '1': 1, '2': 0, '3': 2}))
    found = run('imagenet_9', by_color, nine, options, variants=['original'])
    assert found['original'].metrics['top1'] == pytest.approx(100 / 3)  # two groups swapped


def test_imagenets_classes_have_their_groups(nine, by_color, options):
    names = ['00_dog', '01_bird', '02_car', '03_r', '04_c', '05_i', '06_m', '07_p', '08_fish']
    for name in names:
        shutil.copytree(nine / 'original/val' / COLORS[0], nine / 'all/val' / name)

    def goldfish(images):  # class 1, of the last group
        return torch.eye(1000)[1].expand(len(images), 1000)

    classes = tuple(f'n{number:08d}' for number in range(1000))
    network = replace(by_color, classifier=Classifier(goldfish, classes, SIZE))
    found = run('imagenet_9', network, nine, options, variants=['all'])
    assert imagenet9_groups()[1] == 8
    assert found['all'].metrics['top1'] == pytest.approx(100 / 9)


def test_backgrounds_hide_what_is_not_all_foreground(nine, by_color, options):
    (found,) = run('backgrounds', of_groups(by_color), nine, options).values()
    assert found.metrics == dict(accuracy=25, vulnerable=75)
    assert found.setting == dict(images=12, backgrounds=12)


def test_nothing_taken_away_changes_nothing(by_color, paint, options, tmp_path):
    root = paint(tmp_path / 'o/val', wrong=1).parent
    settings = dict(drops=[0, 0.5, 1], shares=[0.5, 1.0])
    found = run('occlusion', by_color, root, options, **settings)
    assert found['random 0'].metrics['top1'] == 75 and found['random 0'].setting['lost'] == 0
    assert found['random 0.5'].setting['lost'] == 50
    # What is left of an image without patches is gray, as no class is.
    assert found['random 1'].metrics['top1'] == pytest.approx(100 / 3)
    assert found['non_salient 1'].metrics['top1'] == 75  # all hold the attention: none is lost
    assert found['non_salient 1'].setting['lost'] == 0
    assert found['salient 1'].setting['lost'] == 100
    lost = [found[f'{kind} 0.5'].setting['lost'] for kind in ('salient', 'non_salient')]
    assert sum(lost) == pytest.approx(100) and 0 < lost[0] <= lost[1]
    again = run('occlusion', by_color, root, replace(options, images_per_batch=3), **settings)
    assert again == found  # samples are the images', not the batches'


def test_other_network_says_what_is_salient(by_color, paint, options, tmp_path):
    root = paint(tmp_path / 'o/val').parent

    class Corner:
        prepare = None

        def cls_attention(self, images):
            attention = torch.zeros(len(images), 2, 2, 2)
            attention[:, 0, 0, 0] = attention[:, 1, 1, 1] = 1
            return attention

    network = replace(by_color, salience=Corner())
    settings = dict(kinds=['salient'], shares=[0.9])
    lost = {
        head: run('occlusion', network, root, options, head=head, **settings)['salient 0.9'].setting
        for head in (-1, 0, 1)
    }
    assert {head: setting['lost'] for head, setting in lost.items()} == {-1: 50, 0: 25, 1: 25}
    with pytest.raises(ValueError, match='head is 2, and the attention has 2 heads'):
        run('occlusion', network, root, options, head=2, **settings)


def test_a_mean_color_survives_shuffling(by_color, paint, options, tmp_path):
    root = paint(tmp_path / 's/val', wrong=1).parent
    found = run('shuffle', by_color, root, options)
    assert list(found) == ['1x1', '2x2', '2x4', '4x4', '4x8', '8x8', '16x16']  # no 14 in 32
    assert {m.metrics['top1'] for m in found.values()} == {75}

    def upper_half(images):
        return by_color.classifier.logits(images[:, :, : SIZE // 2])

    for path in root.glob('*/*/*.JPEG'):  # the lower half is of another color
        image = np.array(Image.open(path))
        image[SIZE // 2 :] = image[SIZE // 2 :, :, [1, 2, 0]]
        Image.fromarray(image).save(path, quality=95)
    half = replace(by_color, classifier=replace(by_color.classifier, logits=upper_half))
    found = run('shuffle', half, root, options, grids=['2x1', '2x2'])
    assert found['1x1'].metrics['top1'] == 75
    assert found['2x1'].metrics['top1'] < 75
    published = run('shuffle', half, root, options, grids=['2x1'], seed=1, as_published=True)
    # One order for all: it leaves all as they are, or turns all around.
    assert published['2x1'].metrics['top1'] in (75, 0)


BROKEN = {
    'imagenet_a': [
        ('n02_green', None, 'class folders of .* are empty, first n02_green'),
        ('.', None, 'there are no class folders in'),
    ],
    'imagenet_c': [('val', None, 'has neither val nor a corruption of ImageNet-C')],
    'occlusion': [('val', None, 'there is no folder .*val')],
    'shuffle': [('val/n03_red', None, 'are empty, first n03_red')],
}


@pytest.mark.parametrize(
    'task, emptied, message',
    [(task, folder, message) for task, cases in BROKEN.items() for folder, _, message in cases],
)
def test_half_prepared_data_is_refused(task, emptied, message, paint, options, tmp_path):
    root = tmp_path / 'data'
    paint(root if task == 'imagenet_a' else root / 'val')
    shutil.rmtree(root / emptied)
    root.mkdir(exist_ok=True)
    if 'empty' in message:
        (root / emptied).mkdir()
    with pytest.raises(DataError, match=message) as caught:
        CHECKS[task](root, options)
    assert 'It needs' in str(caught.value)


@pytest.mark.parametrize(
    'removed, message',
    [
        ('fog', '1 of 2 corruptions: fog. Unpack them, or name those'),
        ('fog/3', 'there is no folder .*fog/3'),
        ('fog/3/n02_green', 'has 2 class folders and .* has 3'),
    ],
)
def test_half_of_imagenet_c_is_refused(removed, message, paint, options, tmp_path):
    for name in ('snow', 'fog'):
        for severity in (1, 3):
            paint(tmp_path / 'c' / name / str(severity), number=1)
    settings = dict(corruptions=['snow', 'fog'], severities=[1, 3])
    options = replace(options, tasks=dict(imagenet_c=settings))
    CHECKS['imagenet_c'](tmp_path / 'c', options)
    shutil.rmtree(tmp_path / 'c' / removed)
    with pytest.raises(DataError, match=message):
        CHECKS['imagenet_c'](tmp_path / 'c', options)


def test_folders_of_unequal_numbers_are_refused(by_color, paint, options, tmp_path):
    for severity in (1, 2):
        paint(tmp_path / 'c/fog' / str(severity), number=severity)
    settings = dict(corruptions=['fog'], severities=[1, 2])
    with pytest.raises(DataError, match='fog/2 has 6 images, and the folders before it have 3'):
        run('imagenet_c', by_color, tmp_path / 'c', options, **settings)


@pytest.mark.parametrize(
    'task, removed, message',
    [
        ('imagenet_9', 'mixed_rand', 'no folder val in 5 of 8 variants: mixed_rand, mixed_next'),
        ('imagenet_9', 'mixed_same/val/n02_green', 'the groups of mixed_same are n01_blue, n03'),
        ('backgrounds', 'fg_mask', 'there is no folder .*fg_mask/val'),
        ('backgrounds', 'only_bg_t/val/n01_blue', 'the groups of only_bg_t are n02_green'),
        ('backgrounds', 'original/val/n01_blue/2.JPEG', '1 of 12 masks have no image'),
    ],
)
def test_half_of_imagenet9_is_refused(task, removed, message, nine, options):
    path = nine / removed
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if task == 'imagenet_9' and 'groups' in message:
        options = replace(options, tasks=dict(imagenet_9=dict(variants=FOUR)))
    with pytest.raises(DataError, match=message):
        CHECKS[task](nine, options)


def test_masks_of_another_size_are_refused(nine, by_color, options):
    network = of_groups(by_color)
    for path in (nine / 'fg_mask/val').glob('*/3.npy'):
        np.save(path, np.ones((SIZE, SIZE + 1)))
    with pytest.raises(DataError, match=r'3\.npy has \(32, 33\) pixels'):
        run('backgrounds', network, nine, options)
    for path in (nine / 'fg_mask/val').glob('*/*.npy'):
        np.save(path, np.ones((16, 16)))
    with pytest.raises(DataError, match=r'has \(16, 16\) pixels, and the classifier sees 32 x 32'):
        CLASS_CHECKS['backgrounds'](nine, options, COLORS, SIZE)


@pytest.mark.parametrize('task', ['imagenet_a', 'imagenet_r', 'imagenet_c', 'occlusion', 'shuffle'])
def test_classifiers_of_other_classes_are_refused(task, paint, options, tmp_path):
    root = paint(tmp_path / 'data/val')
    root = root if task.startswith(('imagenet_a', 'imagenet_r')) else root.parent
    with pytest.raises(DataError, match='not among the 2 classes of the classifier: n02_green'):
        CLASS_CHECKS[task](root, options, ('n01_blue', 'cat'), SIZE)


@pytest.mark.parametrize('task', ['imagenet_9', 'backgrounds'])
def test_classes_without_groups_are_refused(task, nine, options):
    with pytest.raises(DataError, match="are not ImageNet's 1000, nor the 3 of"):
        CLASS_CHECKS[task](nine, options, ('cat', 'dog'), SIZE)
    (nine / 'in_to_in9.json').write_text('{"0": 1}')
    with pytest.raises(DataError, match='has groups of 1 classes, and the classifier has 2'):
        CLASS_CHECKS[task](nine, options, ('cat', 'dog'), SIZE)
    (nine / 'in_to_in9.json').write_text('[0, 1]')
    with pytest.raises(DataError, match='is not a table'):
        CLASS_CHECKS[task](nine, options, ('cat', 'dog'), SIZE)


def test_images_smaller_than_the_view_are_refused(by_color, paint, options, tmp_path):
    for severity in (1, 2):
        paint(tmp_path / 'c/fog' / str(severity), size=20, number=1)
    settings = dict(corruptions=['fog'], severities=[1, 2])
    with pytest.raises(DataError, match='comes as 20 x 20 pixels, and the classifier sees 32 x 32'):
        run('imagenet_c', by_color, tmp_path / 'c', options, **settings)


@pytest.mark.parametrize(
    'task, settings, message',
    [
        ('imagenet_a', dict(bin_size=0), 'bin_size must be at least 1'),
        ('imagenet_r', dict(bin_size=0), 'bin_size must be at least 1'),
        ('imagenet_c', dict(corruptions=['hail']), "unknown 'hail', choose from gaussian_noise"),
        ('imagenet_c', dict(severities=[0]), 'severities from 1 to 5'),
        ('imagenet_c', dict(jpeg_quality=101), 'from 0 to 100'),
        ('occlusion', dict(kinds=['all']), 'must be of random, salient, non_salient'),
        ('occlusion', dict(drops=[1.5]), 'drops must be from 0 to 1'),
        ('occlusion', dict(shares=[0.0]), 'shares must be above 0'),
        ('occlusion', dict(head=-2), 'head at least -1'),
        ('shuffle', dict(grids=['4']), "must be such as '4x8'"),
        ('shuffle', dict(grids=['0x2']), "must be such as '4x8'"),
    ],
)
def test_options_out_of_range_are_refused(task, settings, message, paint, options, tmp_path):
    root = paint(tmp_path / 'val', number=1)
    options = replace(options, tasks={task: settings})
    with pytest.raises(ValueError, match=message):
        CHECKS[task](root if task.startswith('imagenet_a') else tmp_path, options)


@pytest.mark.parametrize(
    'task, settings', [('occlusion', dict(grid=5)), ('shuffle', dict(grids=['5x4']))]
)
def test_grids_that_do_not_divide_the_view_are_refused(task, settings, paint, tmp_path):
    paint(tmp_path / 'val', number=1)
    with pytest.raises(ValueError, match='does not divide the 32 pixels'):
        CLASS_CHECKS[task](tmp_path, Options(tasks={task: settings}), COLORS, SIZE)
