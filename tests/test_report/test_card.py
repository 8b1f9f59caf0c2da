# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The model card of an export: its metadata, its lines as they stand, and what it does not know."""

import json
import re

import numpy as np
import pytest
import torch
import transformers
import yaml
from PIL import Image

from ibot_mm.checkpoint import (
    Checkpoint,
    CheckpointError,
    export_checkpoint,
    rebuild_backbone,
)
from ibot_mm.models import MaskedVisionTransformer
from ibot_mm.report import write_export_and_card

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
ROW = dict(protocol='knn', metric='top1', value=61.25, setting={}, published=None)


@pytest.fixture
def network():
    torch.manual_seed(0)
    model = MaskedVisionTransformer(arch=ARCH, img_size=32, patch_size=8, mask_token=False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def trained(run):
    """The run's checkpoint, with an evaluation of it and one of an earlier checkpoint."""
    path = run.rename(run.with_name('run')) / 'epoch_24.pth'
    for name, value in (('epoch_24.pth', 61.25), ('epoch_12.pth', 12.5)):
        folder = path.parent / f'of_{name}'
        folder.mkdir()
        results = dict(
            checkpoint=f'run/{name}',
            request=dict(data='my/classes', network='teacher'),
            images=dict(train=80, val=16),
            classes=2,
            summary=dict(teacher=[ROW | dict(value=value)]),
        )
        (folder / 'results.json').write_text(json.dumps(results))
    return path


def write(checkpoint, out, library='huggingface', **options):
    opened = Checkpoint.open(checkpoint)
    export, config, _ = export_checkpoint(opened, library, **options.pop('of', {}))
    return write_export_and_card(out, opened, export, config, **options)


def read(folder):
    """Metadata and body."""
    _, metadata, body = (folder / 'README.md').read_text().split('---\n', 2)
    return yaml.safe_load(metadata), body


def run_lines(body, folder):
    """Run the lines of Python one after another, as they stand, beside an image."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / 'image.jpg')
    space = {}
    for block in re.findall(r'```python\n(.*?)```', body, re.DOTALL):
        exec(block, space)
    return space


def test_the_card_of_a_training(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = write(trained, 'vit', license='cc-by-4.0', datasets=['me/my-images'])
    assert text.startswith('vit/README.md: the model card, license of the weights cc-by-4.0')
    metadata, body = read(tmp_path / 'vit')
    assert metadata == dict(
        license='cc-by-4.0',
        library_name='transformers',
        pipeline_tag='image-feature-extraction',
        tags=['ibot', 'self-supervised-learning', 'vision-transformer'],
        datasets=['me/my-images'],
        metrics=['accuracy'],
    )
    for words in (
        'weights of its teacher',
        '`data/demo/imagenet/ train`',
        'epoch 24 of 32, 1,104 steps of 64 images, 70,656 images seen',
        'random weights',
        '| seed | 7 |',
        '2026-01-02',
        'abc1234',
        '`pretrain/ibot_vit_demo.py` of ibot-mm, changed at',
        '| `model.backbone.arch.embed_dims` | 96 | 32 |',
        '`my/classes` (80 images to fit, 16 to measure, 2 classes)',
        '| knn | top1 | 61.2 |',
    ):
        assert words in body, words
    assert '12.5' not in body  # of another checkpoint
    space = run_lines(body, tmp_path)
    assert type(space['prepare']) is transformers.BitImageProcessor
    assert space['prepare'].image_mean == [0.485, 0.456, 0.406]  # as the training had it
    network, _ = rebuild_backbone(trained)
    with torch.no_grad():
        expected = network(space['pixels'])[-1]
    torch.testing.assert_close(space['feature'], expected[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(space['patches'], expected[:, 1:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(space['tokens'], expected, atol=1e-5, rtol=1e-5)


def test_what_is_unknown_is_said(network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(network.state_dict(), 'found.pth')
    write('found.pth', tmp_path / 'vit', of=dict(assume=dict(num_heads=2)))
    metadata, body = read(tmp_path / 'vit')
    assert metadata == dict(
        license='unknown',
        library_name='transformers',
        pipeline_tag='image-feature-extraction',
        tags=['self-supervised-learning', 'vision-transformer'],
    )
    for words in (
        'pre-trained is unknown',
        '| images | unknown |',
        '| started from | unknown |',
        'Config: unknown',
        'None was found',
        'Nobody said',
    ):
        assert words in body, words
    assert not (tmp_path / 'vit/preprocessor_config.json').exists()
    run_lines(body, tmp_path)


@pytest.mark.parametrize('options', [
    dict(num_registers=2, img_size=64),
    dict(in_channels=4),
    dict(rotary=True, num_registers=1, layer_scale_init_value=0.1,
         norm_cfg=dict(type='LN', eps=1e-5)),
], ids=['registers', 'four channels', 'rotary'])  # fmt: skip
def test_the_lines_fit_other_networks(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = MaskedVisionTransformer(
        **(dict(arch=ARCH, img_size=32, patch_size=8, mask_token=False) | options)
    )
    torch.save(model.state_dict(), 'found.pth')
    write('found.pth', 'vit', of=dict(assume=dict(num_heads=2)))
    space = run_lines(read(tmp_path / 'vit')[1], tmp_path)
    cls_and_patches = torch.cat([space['feature'][:, None], space['patches']], dim=1)
    torch.testing.assert_close(space['tokens'], cls_and_patches, atol=1e-5, rtol=1e-5)


def test_a_published_name_brings_its_metafile(network, tmp_path):
    state = {f'backbone.{name}': t for name, t in network.state_dict().items()}
    opened = Checkpoint('ibot_mm::pretrain/ibot_vits16', state)
    export, config, _ = export_checkpoint(opened, 'huggingface', assume=dict(num_heads=2))
    write_export_and_card(tmp_path / 'vit', opened, export, config)
    metadata, body = read(tmp_path / 'vit')
    assert metadata['datasets'] == ['ILSVRC/imagenet-1k'] and 'ibot' in metadata['tags']
    assert metadata['license'] == 'unknown'
    assert '800 epochs, 1024 images a step' in body and 'not measured again here' in body
    assert '| ImageNet-1k, k-NN Top 1 Accuracy | 75.2 |' in body


def test_nothing_is_overwritten(trained, tmp_path):
    folder = tmp_path / 'vit'
    folder.mkdir()
    (folder / 'README.md').write_text('mine')
    with pytest.raises(CheckpointError, match=r'README\.md is there already'):
        write(trained, folder)
    assert [path.name for path in folder.iterdir()] == ['README.md']
    write(trained, folder, overwrite=True)
    assert 'library_name' in (folder / 'README.md').read_text()


def test_other_libraries_have_no_card(trained, tmp_path):
    with pytest.raises(ValueError, match='which huggingface has'):
        write(trained, tmp_path / 'vit.pth', 'mmpretrain', license='mit')
    write(trained, tmp_path / 'vit.pth', 'mmpretrain')
    assert not (tmp_path / 'README.md').exists()
