# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Networks of other images than RGB are evaluated by what the config of their training says."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope

from ibot_mm.datasets.packing import pack_images
from ibot_mm.evaluation import Options
from ibot_mm.evaluation_request import Request
from ibot_mm.feature_extraction import extract
from ibot_mm.frozen_evaluation import evaluate_frozen
from ibot_mm.network_input import NetworkInput

TOP = Path(__file__).parents[2]
LOAD = dict(channels=6, in_range=(0, 60000), to_float32=True)
SMALL = dict(image_size=16, num_workers=0)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Two classes of noise, 6 bands of 16 bits; 4 training and 2 held-out images of each."""
    root, rng = tmp_path_factory.mktemp('scenes'), np.random.default_rng(0)
    for split, number in (('train', 4), ('val', 2)):
        for label in range(2):
            (root / split / f'class_{label}').mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 60000, (24, 20, 6)).astype(np.uint16)
                pixels[..., label] //= 4
                path = root / split / f'class_{label}/{index}.tif'
                tifffile.imwrite(path, pixels, photometric='minisblack', planarconfig='contig')
    return root


@pytest.fixture
def pretraining(scenes, shrink):
    cfg = shrink('pretrain/ibot_vits16_multispectral.py', scenes)
    cfg.model.backbone.in_channels = 6
    mean, std = [90.0, 110, 120, 130, 140, 150], [50.0, 55, 60, 65, 70, 75]
    cfg.model.data_preprocessor.update(mean=mean, std=std)
    splits = [cfg.val_dataloader.dataset[split] for split in ('bank', 'query')]
    for dataset in (cfg.train_dataloader.dataset, *splits):
        dataset.pipeline.load.update(LOAD)
    for dataset in splits:
        dataset.pipeline.resize.scale = 18  # 8/7 of 16
    return cfg


@pytest.fixture
def model(pretraining):
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(pretraining.model)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    return model.eval()


@pytest.fixture
def save(model, pretraining, tmp_path):
    def save(name='epoch_1.pth', **meta):
        content = dict(state_dict=model.state_dict(), meta=meta)
        torch.save(content, tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture
def checkpoint(save, pretraining):
    return save(cfg=pretraining.pretty_text)


def test_features_are_those_of_the_training(
    checkpoint, pretraining, model, scenes, tmp_path, monkeypatch
):
    """Read, resized and normalized as its k-NN does; of a folder, and of a store."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = DATASETS.build(pretraining.val_dataloader.dataset.query)
    batch = default_collate([dataset[i] for i in range(4)])
    assert batch['inputs'].dtype == torch.float32
    with torch.no_grad():
        images = model.data_preprocessor(batch)['inputs']
        expected = model.teacher.backbone(images)[-1][:, 0]
    features, names = extract(checkpoint, scenes / 'val', **SMALL)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    pack_images(str(scenes / 'val'), tmp_path / 'shards', num_workers=1)
    stored, stored_names = extract(checkpoint, tmp_path / 'shards', **SMALL)
    assert np.array_equal(stored, features) and stored_names == names


def test_protocols(checkpoint, pretraining, scenes, save, tmp_path):
    """By the checkpoint alone, by a config with data, and by the config's own k-NN."""
    pretraining.dump(tmp_path / 'config.py')
    bare, config = save('bare.pth'), str(tmp_path / 'config.py')
    requests = (
        dict(checkpoint=checkpoint, data=str(scenes), baselines=True),
        dict(checkpoint=bare, data=str(scenes), config=config),
        dict(checkpoint=bare, config=config),
    )
    found = [
        evaluate_frozen(
            Request(out=str(tmp_path / f'out_{number}'), protocols=('knn',), **request, **SMALL),
            Options(ks=(1, 3)),
        )
        for number, request in enumerate(requests)
    ]
    assert set(found[0]['measurements']) == {'teacher', 'untrained', 'pixels'}
    for other in found[1:]:
        assert other['measurements']['teacher'] == found[0]['measurements']['teacher']
    caches = [len(list((tmp_path / f'out_{n}/features').iterdir())) for n in range(3)]
    assert caches == [2 + 2 + 4, 2, 2]  # pixels are stored centered, too


def test_another_range_is_extracted_anew(checkpoint, save, pretraining, scenes, tmp_path):
    pretraining.train_dataloader.dataset.pipeline.load.in_range = (0, 30000)
    other = save('other.pth', cfg=pretraining.pretty_text)
    for weights in (checkpoint, other):
        request = Request(weights, str(scenes), out=str(tmp_path), protocols=('knn',), **SMALL)
        evaluate_frozen(request, Options(ks=(1,)))
    assert len(list((tmp_path / 'features').iterdir())) == 4


def test_what_cannot_be_read_is_refused(save, checkpoint, scenes, tmp_path):
    bare, heads = save('bare.pth'), dict(num_heads=2)
    for run in (
        lambda: extract(bare, scenes / 'val', assume=heads),
        lambda: evaluate_frozen(Request(bare, str(scenes), assume=heads), Options(ks=(1,))),
    ):
        with pytest.raises(ValueError, match='takes 6 channels, and its .* config of its training'):
            run()
    request = Request(checkpoint, str(scenes), protocols=('part_linear',), out=str(tmp_path))
    with pytest.raises(ValueError, match='part_linear: RGB photographs only, .* 6 channels'):
        evaluate_frozen(request, Options())
    draw = runpy.run_path(str(TOP / 'tools/analysis_tools/visualize_network.py'))['main']
    picture = tmp_path / 'picture.png'
    tifffile.imwrite(tmp_path / 'x.tif', np.zeros((24, 20, 3), np.uint8))
    (tmp_path / 'x.tif').rename(picture)  # known by its content
    with pytest.raises(SystemExit, match='figures: RGB photographs only, .* 6 channels'):
        draw(['pca', checkpoint, str(picture), '--out', str(tmp_path / 'x.png')])


PREPROCESSOR = 'model.data_preprocessor'
RGB_CONFIG = Config.fromfile(TOP / 'configs/pretrain/ibot_vits16.py')


@pytest.mark.parametrize(
    'changes, expected',
    [
        ({}, dict(is_published=True, is_rgb=True)),
        ({f'{PREPROCESSOR}.mean': [1.0, 2.0, 3.0]}, dict(mean=(1.0, 2.0, 3.0), is_rgb=True)),
        ({f'{PREPROCESSOR}.mean': None, f'{PREPROCESSOR}.std': None}, dict(mean=(0.0,))),
        (
            {'train_dataloader.dataset.pipeline.load.in_range': (0, 65535)},
            dict(load=dict(in_range=(0, 65535)), is_rgb=True),
        ),
        (
            {'train_dataloader.dataset.pipeline.load.channels': [3, 2, 1]},
            dict(load=dict(channels=[3, 2, 1]), is_rgb=False),
        ),
        (
            {'train_dataloader.dataset.extensions': ['.npy']},
            dict(extensions=('.npy',), is_published=True),
        ),
        (
            {f'{PREPROCESSOR}.type': 'DetDataPreprocessor', f'{PREPROCESSOR}.mean': [1.0] * 3},
            dict(is_published=True),
        ),
    ],
)  # fmt: skip
def test_what_a_config_says(changes, expected):
    cfg = RGB_CONFIG.copy()
    cfg.merge_from_dict(changes)
    found = NetworkInput.of(cfg, 3)
    assert {name: getattr(found, name) for name in expected} == expected
    found.check()


@pytest.mark.parametrize(
    'config',
    [
        {},
        dict(train_dataloader=None, model='text'),
        dict(train_dataloader=dict(dataset=dict(dataset=dict(pipeline=[None, dict(type='X')])))),
    ],
)
def test_configs_that_say_nothing(config):
    assert NetworkInput.of(config, 3) == NetworkInput()
