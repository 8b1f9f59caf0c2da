# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The console command, as typed: what it says, refuses and writes."""

import json
import re
import runpy
from inspect import signature

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

import ibot_mm
from ibot_mm import cli
from ibot_mm.cli import app, main

COMMANDS = (
    *('pretrain', 'embed', 'evaluate', 'diagnose', 'report', 'export', 'convert', 'list'),
    *('pack', 'unpack', 'verify'),
)
SMALL = (  # a step of a tenth of a second
    'model.backbone.arch=tiny', 'model.neck.in_channels=192',
    'model.backbone.img_size=16', 'model.backbone.patch_size=8',
    'model.neck.hidden_channels=32', 'model.neck.bottleneck_channels=16',
    'train_dataloader.dataset.pipeline.crops.global_crop_size=16',
    'train_dataloader.dataset.pipeline.crops.num_local_crops=0',
    'train_dataloader.dataset.pipeline.masks.patch_size=8',
    *(f'val_dataloader.dataset.{part}.pipeline.{option}=16' for part in ('bank', 'query')
      for option in ('resize.scale', 'crop.crop_size')),
    'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
)  # fmt: skip


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """Noise of two classes, 40 images each for training, 8 for validation."""
    root = tmp_path_factory.mktemp('images')
    rng = np.random.default_rng(0)
    for split, number in (('train', 40), ('val', 8)):
        for label in range(2):
            folder = root / split / f'class_{label}'
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{index}.png')
    (root / 'train/notes.txt').write_text('not an image')
    return root


def run(*words):
    """Run the command; return its exit status or message."""
    try:
        main([str(word) for word in words])
    except SystemExit as end:
        return end.code
    return 0


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert run(command, '--help') in (0, None)
    text = ' '.join(capsys.readouterr().out.split())
    assert f'Example: ibot-mm {command} ' in text


def test_the_command_and_the_module_are_one():
    assert set(COMMANDS) < set(app)
    assert runpy.run_module('ibot_mm.__main__')['main'] is main
    for name in ('pretrain', 'embed', 'evaluate'):
        typed, called = (
            signature(f).parameters for f in (getattr(cli, name), getattr(ibot_mm, name))
        )
        defaults = {key: parameter.default for key, parameter in typed.items() if key in called}
        expected = {key: called[key].default for key in defaults}
        for of_all in (defaults, expected):  # what the command line must be told, and its lists
            of_all.pop('out'), of_all.pop('data', None), of_all.pop('options', None)
            of_all |= {k: tuple(v) for k, v in of_all.items() if isinstance(v, list)}
        assert defaults == expected


@pytest.mark.parametrize('what, some', [
    ('models', 'vitb16'), ('protocols', 'linear'), ('checkpoints', 'timm'),
])  # fmt: skip
def test_list(what, some, capsys):
    assert run('list', what) in (0, None)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith(f'{some} ')]


def test_the_plan_is_said_and_written(images, tmp_path, capsys):
    out = tmp_path / 'run'
    words = ('pretrain', images, '--out', out, '--plan-only', '--epochs', 4, *SMALL)
    assert run(*words) in (0, None)
    printed = capsys.readouterr().out
    for text in ('80', 'small data', 'k-NN on val'):
        assert text in printed
    cfg = Config.fromfile(out / 'config.py')
    assert cfg.train_dataloader.dataset.data_root == str(images)
    assert cfg.train_dataloader.batch_size == 10  # eight steps an epoch
    assert cfg.model.backbone.arch == 'tiny'
    assert 'holds a training' in run(*words)  # and is not overwritten
    assert run(*words, '--resume') in (0, None)


@pytest.mark.parametrize('words, message', [
    (('pretrain', 'IMAGES', '--out', 'OUT', '--model', 'vits61'), 'near are vits16'),
    (('pretrain', 'IMAGES', '--out', 'OUT', 'vits16'), 'is not KEY=VALUE'),
    (('pretrain', 'IMAGES/none', '--out', 'OUT'), 'there is no folder'),
    (('pretrain', 'OTHERS/a.txt', '--out', 'OUT'), 'neither a folder nor a store: give'),
    (('pretrain', 'IMAGES/val/class_0', '--out', 'OUT'), 'has 8 images'),
    (('pretrain', 'OTHERS', '--out', 'OUT'), r'0 images, 3 other files passed over \(3 .txt\)'),
    (('embed', 'none.pth', 'IMAGES', '--out', 'OUT/x.npy'), 'none.pth'),
    (('embed', 'none.pth', 'IMAGES', '--out', 'OUT/x.csv'), 'csv'),
    (('evaluate', 'none.pth', '--data', 'IMAGES', '--protocols', 'kmn'), "'kmn'"),
    (('export', 'none.pth', 'OUT/x', '--to', 'timm'), 'none.pth'),
    (('convert', 'none.pth', 'OUT/x.pth'), 'none.pth'),
    (('diagnose', 'IMAGES'), 'scalars.json'),
    (('report', 'IMAGES', '--out', 'OUT/x.html'), 'scalars.json'),
    (('report', '--out', 'OUT/x.html'), 'at least one'),
    (('pack', 'IMAGES/none', 'OUT/x'), 'there is no folder'),
    (('pack', 'OTHERS', 'OUT/x'), r'no images to pack: 0 images, 3 other files'),
    (('pack', 'IMAGES', 'OUT/x', '--quality', '0'), 'quality must be 1 to 100'),
    (('unpack', 'OTHERS', 'OUT/x'), r'no .tar file at'),
    (('verify', 'OTHERS'), r'no .tar file at'),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line(words, message, images, tmp_path):
    others = tmp_path / 'others'
    others.mkdir()
    for name in 'abc':
        (others / f'{name}.txt').touch()
    places = dict(IMAGES=images, OUT=tmp_path / 'out', OTHERS=others)
    for place, path in places.items():
        words = [word.replace(place, str(path)) for word in words]
    status = run(*words)
    assert isinstance(status, str) and status.startswith('ibot-mm: ')
    assert re.search(message, status), status
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('labeled', [True, False])
def test_the_plan_for_shards(images, tmp_path, capsys, labeled):
    shards = tmp_path / 'shards'
    for split in ('train', 'val'):
        run('pack', images / split, shards / split, '--num-workers', 1)
    small = [word for word in SMALL if labeled or not word.startswith('val_')]
    place = shards if labeled else shards / 'train'
    words = ('--out', tmp_path / 'run', '--plan-only', '--epochs', 4, *small)
    assert run('pretrain', place, *words) in (0, None)
    printed = capsys.readouterr().out
    assert '80' in printed and ('k-NN on val' in printed) == labeled
    cfg = Config.fromfile(tmp_path / 'run/config.py')
    train = cfg.train_dataloader.dataset
    assert train.type == 'ibot_mm.TarImages' and not train.with_label
    assert (train.data_root, train.data_prefix) == (
        (str(shards), 'train') if labeled else (str(place), '')
    )
    if labeled:
        splits = cfg.val_dataloader.dataset
        assert [splits[name].data_prefix for name in ('bank', 'query')] == ['train', 'val']
        assert {splits[name].type for name in ('bank', 'query')} == {'ibot_mm.TarImages'}


def test_the_plan_for_files_of_another_ending(shrink, tmp_path, capsys):
    """A config of one's own says which."""
    scenes = tmp_path / 'scenes'
    scenes.mkdir()
    for number in range(64):
        np.save(scenes / f'{number}.npy', np.zeros((2, 2, 12), np.uint16))
    cfg = shrink('pretrain/ibot_vits16_multispectral.py', scenes)
    config, words = tmp_path / 'own.py', ('--out', tmp_path / 'run', '--plan-only', '--config')
    cfg.dump(config)
    assert '64 other files passed over (64 .npy)' in run('pretrain', scenes, *words, config)
    cfg.train_dataloader.dataset.extensions = ['.npy']
    cfg.dump(config)
    assert run('pretrain', scenes, *words, config) in (0, None)
    assert ' 64 ' in capsys.readouterr().out
    dataset = Config.fromfile(tmp_path / 'run/config.py').train_dataloader.dataset
    assert dataset.extensions == ['.npy'] and dataset.pipeline.load.channels == 12
    assert (dataset.type, dataset.data_root) == ('ibot_mm.ImageFolder', str(scenes))


def test_pack_verify_unpack(images, tmp_path, capsys):
    shards, folder = tmp_path / 'shards', tmp_path / 'again'
    options = ('--images-per-shard', 5, '--num-workers', 1)
    assert run('pack', images / 'val', shards, *options) in (0, None)
    assert '16 images in 4 shards (found: 16 images' in ' '.join(capsys.readouterr().out.split())
    assert run('verify', shards, '--num-workers', 1) in (0, None)
    assert run('unpack', shards, folder) in (0, None)
    assert len(list(folder.glob('class_*/*.png'))) == 16
    (shards / '000003.tar').unlink()
    assert run('verify', shards, '--num-workers', 1) == 1
    assert '000003.tar is missing' in ' '.join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_from_images_to_features(images, tmp_path, call):
    out = tmp_path / 'run'
    ours = ('-m', 'ibot_mm')
    printed = call(
        *ours, 'pretrain', images, '--out', out, '--epochs', 2, *SMALL, 'train_cfg.val_interval=2'
    ).stdout
    assert 'small data' in printed and f'tools/train.py {out}/config.py' in printed
    checkpoint = out / 'epoch_2.pth'
    assert checkpoint.exists()
    call(*ours, 'pretrain', images, '--out', out, '--resume')  # which is at its end

    features = tmp_path / 'features.npy'
    call(*ours, 'embed', checkpoint, images / 'val', '--out', features, '--image-size', 16,
         '--num-workers', 0)  # fmt: skip
    assert np.load(features).shape == (16, 192)
    call(*ours, 'evaluate', checkpoint, '--data', images, '--protocols', 'knn', '--ks', 5, 10,
         '--image-size', 16, '--out', tmp_path / 'evaluation', '--num-workers', 0)  # fmt: skip
    results = json.loads((tmp_path / 'evaluation/results.json').read_text())
    assert results['images'] == dict(train=80, val=16)
    call(*ours, 'export', checkpoint, tmp_path / 'exported', '--to', 'huggingface')
    assert (tmp_path / 'exported/config.json').exists()
    assert 'of the training is done' in call(*ours, 'diagnose', out).stdout


@pytest.mark.long
def test_from_shards_to_features(images, tmp_path, call):
    shards, out, ours = tmp_path / 'shards', tmp_path / 'run', ('-m', 'ibot_mm')
    for split in ('train', 'val'):
        call(*ours, 'pack', images / split, shards / split, '--images-per-shard', 30)
    call(*ours, 'pretrain', shards, '--out', out, '--epochs', 1, *SMALL, 'train_cfg.val_interval=1')
    checkpoint, small = out / 'epoch_1.pth', ('--image-size', 16, '--num-workers', 0)
    features = tmp_path / 'features.npy'
    call(*ours, 'embed', checkpoint, shards / 'val', '--out', features, *small)
    assert np.load(features).shape == (16, 192)
    assert features.with_suffix('.txt').read_text().startswith('class_0/0.png\nclass_0/1.png\n')
    found = []
    for data in (shards, images):
        evaluation = tmp_path / f'evaluation_{data.name}'
        call(*ours, 'evaluate', checkpoint, '--data', data, '--protocols', 'knn', '--ks', 5,
             '--out', evaluation, *small)  # fmt: skip
        found.append(json.loads((evaluation / 'results.json').read_text())['measurements'])
    assert found[0] == found[1]
