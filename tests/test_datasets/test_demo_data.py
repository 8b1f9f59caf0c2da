# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ibot_mm.datasets.demo import (
    Composer,
    DemoSettings,
    Instance,
    Scene,
    load_digit_source,
    load_photographs,
    make_demo_data,
)
from ibot_mm.datasets.demo.writers import decode_mask, encode_mask

pytestmark = pytest.mark.slow

# Crowds are rare by default: more of them here, so that few scenes hold some.
SETTINGS = DemoSettings(
    num_train=40, num_val=20, num_scenes_train=6, num_scenes_val=3, crowd_prob=0.15
)

FEW = DemoSettings(num_train=10, num_val=10, num_scenes_train=1, num_scenes_val=1)


def draw(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*') if path.is_file()
    }


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    return make_demo_data(tmp_path_factory.mktemp('demo') / 'data', SETTINGS)


@pytest.fixture(scope='module')
def composers() -> dict[str, Composer]:
    return {split: Composer(SETTINGS, split) for split in ('train', 'val')}


def test_same_settings_give_the_same_bytes_in_any_number_of_processes(root, tmp_path):
    again = make_demo_data(tmp_path / 'again', SETTINGS, num_workers=2)
    assert contents(again) == contents(root)


def test_another_seed_gives_other_images_and_a_larger_set_the_same(root, tmp_path):
    other = DemoSettings(seed=1, num_train=10, num_val=10, num_scenes_train=1, num_scenes_val=1)
    larger = DemoSettings(num_train=50, num_val=20, num_scenes_train=1, num_scenes_val=1)
    first = 'imagenet/train/digit_0/000000.jpg'
    expected = (root / first).read_bytes()
    assert (make_demo_data(tmp_path / 'other', other) / first).read_bytes() != expected
    assert (make_demo_data(tmp_path / 'larger', larger) / first).read_bytes() == expected


def test_imagenet_folders(root):
    for split, count in (('train', 4), ('val', 2)):
        folders = sorted((root / 'imagenet' / split).iterdir())
        assert [folder.name for folder in folders] == [f'digit_{label}' for label in range(10)]
        assert [len(list(folder.glob('*.jpg'))) for folder in folders] == [count] * 10
    assert cv2.imread(str(root / 'imagenet/train/digit_3/000003.jpg')).shape == (64, 64, 3)


def test_mmpretrain_reads_the_folders(root):
    from mmpretrain.datasets import CustomDataset

    data = CustomDataset(data_root=str(root / 'imagenet'), data_prefix='val')
    assert len(data) == 20
    for index in range(20):
        info = data.get_data_info(index)
        assert f'digit_{info["gt_label"]}' == Path(info['img_path']).parent.name


def test_train_and_val_share_no_digit_and_no_piece_of_a_photograph(root):
    manifest = json.loads((root / 'demo_data.json').read_text())
    digits = {split: set(manifest[split]['digits']) for split in ('train', 'val')}
    assert digits['train'] and digits['val']
    assert not digits['train'] & digits['val']
    train, val = (manifest[split]['photograph_columns'] for split in ('train', 'val'))
    assert train.keys() == val.keys() and len(train) >= 10
    for name in train:
        assert train[name][0] < train[name][1] <= val[name][0] < val[name][1]


def test_sources_are_split_without_loss():
    train, val = load_digit_source('train'), load_digit_source('val')
    assert sorted([*train.indices, *val.indices]) == list(range(1797))
    assert min(Counter(val.labels.tolist()).values()) >= 40
    for left, right in zip(load_photographs('train'), load_photographs('val')):
        assert left.name == right.name
        assert left.image.dtype == np.uint8 and left.image.shape[2] == 3
        assert left.image.shape[1] == left.columns[1] - left.columns[0]
        assert right.image.shape[1] == right.columns[1] - right.columns[0]


@pytest.mark.parametrize('split', ['train', 'val'])
def test_coco_annotations(root, split):
    coco = COCO(root / 'coco' / 'annotations' / f'instances_{split}.json')
    assert len(coco.getImgIds()) == len(list((root / 'coco' / split).glob('*.jpg')))
    assert [category['id'] for category in coco.loadCats(coco.getCatIds())] == list(range(1, 11))
    kinds = set()
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.loadImgs(annotation['image_id'])[0]
        file = root / 'coco' / split / image['file_name']
        assert cv2.imread(str(file)).shape == (image['height'], image['width'], 3)
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation['area']
        left, top, width, height = (int(value) for value in annotation['bbox'])
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert (left, left + width - 1) == (columns[0], columns[-1])
        assert (top, top + height - 1) == (rows[0], rows[-1])
        segmentation = annotation['segmentation']
        kind = 'polygon' if isinstance(segmentation, list) else type(segmentation['counts'])
        assert (kind is list) == bool(annotation['iscrowd'])
        kinds.add(kind)
    if split == 'train':
        assert kinds == {'polygon', str, list}


def ring() -> np.ndarray:
    mask = np.zeros((9, 12), bool)
    mask[2:8, 3:9] = True
    mask[4:6, 5:7] = False
    return mask


@pytest.mark.parametrize('crowd', [False, True])
@pytest.mark.parametrize('where', ['inside', 'corner', 'last pixel', 'two parts', 'hole'])
def test_masks_come_back_exactly(where, crowd):
    mask = np.zeros((9, 12), bool)
    mask |= {
        'inside': lambda: np.pad(np.tri(4, dtype=bool), ((2, 3), (5, 3))),
        'corner': lambda: np.pad(np.tri(4, dtype=bool), ((0, 5), (0, 8))),
        'last pixel': lambda: np.pad(np.tri(4, dtype=bool), ((5, 0), (8, 0))),
        'two parts': lambda: np.pad(np.eye(2, dtype=bool).repeat(2, 0), ((1, 4), (3, 7))),
        'hole': ring,
    }[where]()
    segmentation = encode_mask(Instance(3, mask, crowd, []))
    assert isinstance(segmentation, dict) == (crowd or where == 'hole')
    np.testing.assert_array_equal(decode_mask(json.loads(json.dumps(segmentation)), (9, 12)), mask)


# Strokes are lighter than what is around them by the least contrast, short of clipping; notes are
# lighter than a scene's photograph.
@pytest.mark.parametrize('kind, contrast', [('class', 35), ('scene', 25)])
def test_masks_are_where_instances_were_drawn(composers, kind, contrast):
    for seed in range(5):
        if kind == 'class':
            scene = composers['train'].compose_class(seed, draw(seed))
        else:
            scene = composers['train'].compose_scene(draw(seed))
        assert len(scene.instances) >= 2
        drawn = sum(instance.mask.astype(int) for instance in scene.instances)
        assert drawn.max() == 1
        np.testing.assert_array_equal(drawn == 1, scene.opacity >= 0.5)
        gray = scene.image.mean(2)
        for instance in scene.instances:
            around = cv2.dilate(instance.mask.astype(np.uint8), np.ones((9, 9))) > 0
            around &= scene.opacity == 0
            solid = instance.mask & (scene.opacity == 1)
            assert gray[solid].mean() - gray[around].mean() > contrast


def test_a_note_is_a_piece_of_a_classification_image():
    composer = Composer(DemoSettings(hole_prob=0.0), 'train')
    whole = composer.compose_class(7, draw(3)).image
    note = composer._draw_note(7, draw(3))
    found = cv2.matchTemplate(whole, note.image.astype(np.uint8), cv2.TM_SQDIFF)
    assert found.min() < 1
    height, width = note.paper.shape
    assert 0.6 * height * width < note.paper.sum() < height * width  # it is turned
    assert set(composer.digits.labels[np.isin(composer.digits.indices, note.sources)]) == {7}


def test_a_punched_note_has_a_hole():
    composer = Composer(DemoSettings(hole_prob=1.0), 'train')
    mask = composer._draw_note(7, draw(3)).paper >= 0.5
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    assert cv2.connectedComponents(outside, connectivity=4)[0] == 3  # paper, around it, the hole


def test_ade_maps(root, composers):
    for split, folder, count in (('train', 'training', 6), ('val', 'validation', 3)):
        folders = [root / 'ade' / kind / folder for kind in ('images', 'annotations')]
        names = [sorted(path.stem for path in place.iterdir()) for place in folders]
        assert names[0] == names[1] and len(names[0]) == count
        seen = set()
        for index, name in enumerate(names[0]):
            image = cv2.imread(str(folders[0] / f'{name}.jpg'))
            classes = cv2.imread(str(folders[1] / f'{name}.png'), cv2.IMREAD_UNCHANGED)
            assert classes.dtype == np.uint8 and classes.shape == image.shape[:2]
            seen |= set(np.unique(classes))
            # The scene again, from the same draws: pixels agree with what was drawn.
            random = np.random.default_rng([0, 2, ('train', 'val').index(split), index])
            scene = composers[split].compose_scene(random)
            expected = np.zeros(classes.shape, int)
            expected[scene.opacity < 0.1] = 11
            for instance in scene.instances:
                expected[instance.mask] = instance.label + 1
            np.testing.assert_array_equal(classes, expected)
            difference = image[..., ::-1].astype(int) - scene.image
            assert np.abs(difference).mean() < 6  # what JPEG changes
        assert seen <= set(range(12)) and {0, 11} <= seen and len(seen) > 8


def test_classification_images_show_one_class(composers):
    for label in range(10):
        scene = composers['val'].compose_class(label, draw(label))
        assert len(scene.instances) >= 2
        assert {instance.label for instance in scene.instances} == {label}


@pytest.fixture(scope='module')
def scenes(composers) -> dict[str, list[Scene]]:
    """Classification images whose labels are 0 to 9 in turn."""
    return {
        split: [
            composers[split].compose_class(index % 10, draw(first + index)) for index in range(600)
        ]
        for split, first in (('train', 0), ('val', 600))
    }


def statistics(scenes: list[Scene], kind: str) -> np.ndarray:
    """What could give a label away without a look at shapes."""
    features = []
    for scene in scenes:
        pixels = scene.image.astype(float)
        if kind == 'background':
            pixels = pixels[scene.opacity == 0]
        if kind == 'stroke':
            pixels = pixels[scene.opacity == 1]
        pixels = pixels.reshape(-1, 3)
        quantiles = np.quantile(pixels.mean(1), [0.1, 0.5, 0.9])
        features.append([*pixels.mean(0), *pixels.std(0), *quantiles])
    return np.array(features)


def accuracy_of_statistics(scenes: dict[str, list[Scene]], kind: str) -> float:
    features, held_out = (statistics(scenes[split], kind) for split in ('train', 'val'))
    labels = np.arange(600) % 10
    mean, scale = features.mean(0), features.std(0)
    model = LogisticRegression(max_iter=1000).fit((features - mean) / scale, labels)
    return model.score((held_out - mean) / scale, labels)


@pytest.mark.long
@pytest.mark.parametrize('kind', ['background', 'stroke'])
def test_color_and_background_do_not_give_the_label_away(scenes, kind):
    # Chance is 0.1, and its standard deviation on 600 images 0.012.
    assert accuracy_of_statistics(scenes, kind) < 0.16


@pytest.mark.long
def test_amount_of_ink_says_little(scenes):
    """It belongs to the shapes: an 8 has more ink than a 7. The whole image shows it."""
    assert accuracy_of_statistics(scenes, 'whole') < 0.3


@pytest.mark.long
def test_raw_pixels_hardly_give_the_label_away(scenes):
    pixels = {
        split: np.stack([scene.image.ravel() for scene in scenes[split]]).astype(float) - 128
        for split in scenes
    }
    labels = np.arange(600) % 10
    model = KNeighborsClassifier(20, weights='distance', metric='cosine')
    assert model.fit(pixels['train'], labels).score(pixels['val'], labels) < 0.35


def test_folder_with_demo_data_is_kept_unless_told_otherwise(root, tmp_path):
    small = DemoSettings(num_train=10, num_val=10, num_scenes_train=1, num_scenes_val=1)
    out = make_demo_data(tmp_path / 'data', SETTINGS)
    before = contents(out)
    with pytest.raises(FileExistsError, match='--overwrite'):
        make_demo_data(out, small)
    assert contents(out) == before
    make_demo_data(out, small, overwrite=True)
    assert len(list(out.rglob('imagenet/train/*/*.jpg'))) == 10
    assert [path.name for path in tmp_path.iterdir()] == ['data']


@pytest.mark.parametrize('overwrite', [False, True])
def test_folder_with_anything_else_is_never_touched(tmp_path, overwrite):
    (tmp_path / 'coco').mkdir()
    (tmp_path / 'coco' / 'mine.jpg').write_bytes(b'mine')
    with pytest.raises(FileExistsError, match='choose a new or empty folder'):
        make_demo_data(tmp_path, SETTINGS, overwrite=overwrite)
    assert contents(tmp_path) == {'coco/mine.jpg': b'mine'}


def test_interrupted_run_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Composer, 'compose_scene', stop)
        with pytest.raises(KeyboardInterrupt):
            make_demo_data(tmp_path / 'data', FEW)
    assert not (tmp_path / 'data').exists()
    make_demo_data(tmp_path / 'data', FEW)
    assert [path.name for path in tmp_path.iterdir()] == ['data']


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(num_train=9), 'num_train=9'),
        (dict(num_val=0), 'num_val=0'),
        (dict(num_scenes_val=0), 'num_scenes_val=0'),
        (dict(image_size=16), 'image_size=16'),
    ],
)
def test_settings_that_make_no_sense(wrong, message):
    with pytest.raises(ValueError, match=message):
        DemoSettings(**wrong)


@pytest.mark.parametrize('size', [32, 48])
def test_other_image_sizes(size):
    composer = Composer(DemoSettings(image_size=size), 'train')
    scene = composer.compose_class(4, draw(0))
    assert scene.image.shape == (size, size, 3)
    assert len(scene.instances) >= 2
    heights = [instance.box[3] for instance in scene.instances]
    assert max(heights) <= 0.6 * size
