# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.loading import write_photographs
from benchmarks.published_loader import published_dataset

ROOT = Path(__file__).parents[2]
SCRIPT = """
import tensorboardX, utils
from evaluation.unsupervised.unsup_cls import eval_pred
from models.head import iBOTHead
class DataAugmentationiBOT:
    def __init__(self, global_crop_scale, local_crop_scale, num_global_crops, num_local_crops):
        self.numbers = num_global_crops, num_local_crops
    def __call__(self, image):
        return [utils.crop(image)] * sum(self.numbers)
"""
UTILS = """
import torch
def crop(image):
    return torch.zeros(3, 32, 32)
"""
LOADER = """
from torchvision.datasets import ImageFolder
class ImageFolderMask(ImageFolder):
    def __init__(self, *args, patch_size, pred_ratio, pred_ratio_var, pred_aspect_ratio,
                 pred_shape, **kwargs):
        super().__init__(*args, **kwargs)
"""


@pytest.fixture
def clone(tmp_path):
    """What the benchmark uses of the published repository, next to nothing inside."""
    folder = tmp_path / 'clone'
    folder.mkdir()
    for name, text in (('main_ibot', SCRIPT), ('utils', UTILS), ('loader', LOADER)):
        (folder / f'{name}.py').write_text(text)
    return folder


@pytest.fixture
def run(call, tmp_path):
    """Run the benchmark in a process of its own, since it binds itself to one core."""

    def run(*options):
        file = tmp_path / 'figures.json'
        small = ['--images', 2, '--batch-size', 2, '--rounds', 1, '--json', file]
        result = call('-m', 'benchmarks.loading', *small, *options)
        return json.loads(file.read_text()), result.stdout

    return run


@pytest.mark.slow
def test_without_a_reference(run):
    content, output = run()
    ours = {'workers', 'workers, preprocessor'}
    ours |= {f'augmenting {name}' for name in ours}
    assert set(content['figures']) == ours
    assert all(figures['median'] > 0 for figures in content['figures'].values())
    assert 'Drawing masks takes' in output and 'published' not in output
    assert 0 < content['settings']['share_of_masks'] < 1


@pytest.mark.slow
def test_with_a_reference(run, clone):
    content, output = run('--reference', clone)
    figures = content['figures']
    assert figures['workers']['ratio'] == pytest.approx(
        figures['published']['median'] / figures['workers']['median']
    )
    assert 'times as fast' in output


def test_published_dataset_leaves_no_modules_behind(tmp_path, clone):
    write_photographs(tmp_path / 'images/one', 1)
    before, path = set(sys.modules), list(sys.path)
    crops, label = published_dataset(clone, tmp_path / 'images')[0]
    assert len(crops) == 12 and label == 0
    assert not {'main_ibot', 'loader', 'utils', 'models', 'tensorboardX'} & (
        set(sys.modules) - before
    )
    assert sys.path == path


def test_what_is_no_clone(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no main_ibot.py: --reference takes a clone'):
        published_dataset(tmp_path, tmp_path)


def test_photographs(tmp_path):
    write_photographs(tmp_path / 'first', 5)
    write_photographs(tmp_path / 'second', 5)
    images = [np.asarray(Image.open(path)) for path in sorted((tmp_path / 'first').iterdir())]
    assert [image.shape for image in images] == [(375, 500, 3)] * 5
    assert not (images[0] == images[4]).all()  # another part of the same photograph
    for path in (tmp_path / 'first').iterdir():
        assert path.read_bytes() == (tmp_path / 'second' / path.name).read_bytes()
