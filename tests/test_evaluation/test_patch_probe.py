# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import cv2
import numpy as np
import pytest
import torch

from ibot_mm.evaluation import DataError, FeatureExtractor, Options, best_of
from ibot_mm.evaluation.patch_probe import (
    count_classes,
    majority_labels,
    probe_patches,
    read_patches,
)
from ibot_mm.evaluation.views import prepare
from ibot_mm.models import MaskedVisionTransformer

OPTIONS = Options(epochs=20, batch_size=64, learning_rates=(0.01, 1.0))


def test_majority():
    labels = torch.tensor([
        [0, 0, 2, 2],
        [0, 1, 1, 1],
        [255, 255, 255, 1],
        [255, 2, 1, 255],
    ])  # fmt: skip
    # A tie of 1 and 2 goes to the lower class, one of a class and no label to the class.
    assert majority_labels(labels, 2, 3).tolist() == [0, 1, 255, 1]


def test_a_class_that_tokens_tell_is_learned():
    """And the metrics are those of patches: the third class is never told apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (400,), generator=generator)
    tokens = torch.nn.functional.one_hot(labels.clamp(max=1), 2).float() - 0.5
    labels[::10] = 255
    found = probe_patches((tokens, labels), (tokens, labels), 3, OPTIONS)
    best = best_of(found)
    assert [m.setting['lr'] for m in found] == [0.01, 1.0]
    known = labels[labels != 255]
    counts = known.bincount(minlength=3).double()
    more = 1 + int(counts[2] > counts[1])  # of the two that look alike, the more frequent wins
    accuracy = (counts[0] + counts[more]) / counts.sum()
    assert best.metrics['accuracy'] == pytest.approx(float(100 * accuracy))
    union = counts[1] + counts[2]
    assert best.metrics['miou'] == pytest.approx(float(100 * (1 + counts[more] / union) / 3))


@pytest.fixture
def scenes(tmp_path):
    """Two gray halves; the class is the half, and some pixels are not labeled."""
    rng = np.random.default_rng(0)
    for split, number in (('training', 4), ('validation', 2)):
        for index in range(number):
            mask = np.ones((18, 24), np.uint8)
            mask[:, int(rng.integers(1, 5)) * 4 :] = 2
            image = np.where(mask[..., None] == 1, 40, 200) + rng.integers(0, 20, (18, 24, 3))
            mask[:4, :4] = 0
            for kind, array in (('images', image.astype(np.uint8)), ('annotations', mask)):
                path = tmp_path / kind / split / f'{index}.{"jpg" if kind == "images" else "png"}'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), array)
    return tmp_path


def test_scenes(scenes):
    torch.manual_seed(0)
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    network = MaskedVisionTransformer(arch=arch, img_size=16, patch_size=4, mask_token=False)
    extractor = FeatureExtractor(network)
    assert count_classes(scenes) == 2
    train, held_out = (
        read_patches(scenes, split, extractor, prepare, 4, 2)
        for split in ('training', 'validation')
    )
    # 18 rows are cut to 16: a grid of 4 x 6, whose first patch is not labeled.
    assert train[0].shape == (4 * 24, 16) and held_out[1].shape == (2 * 24,)
    assert (train[1].view(4, 4, 6)[:, 0, 0] == 255).all()
    assert train[1].view(4, 4, 6)[0, 1].unique(return_counts=True)[0].tolist() == [0, 1]
    assert best_of(probe_patches(train, held_out, 2, OPTIONS)).metrics['miou'] > 95


def test_data_that_do_not_serve(scenes):
    with pytest.raises(DataError, match=r'no images/training.*\s.*needs the layout of ADE20K'):
        count_classes(scenes / 'images')
    (scenes / 'annotations/training/2.png').unlink()
    with pytest.raises(DataError, match='2.png is not there: 1 of 4 images'):
        count_classes(scenes)
