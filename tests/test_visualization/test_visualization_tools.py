# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import json
import runpy
from pathlib import Path

import cv2
import pytest
import torch
from matplotlib.image import imread
from mmengine.registry import MODELS
from skimage import data

import ibot_mm
from ibot_mm.visualization import attention

pytestmark = pytest.mark.slow

TOOLS = Path(ibot_mm.__file__).parents[1] / 'tools' / 'analysis_tools'

CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(mean=[120, 120, 120], std=[60, 60, 60], to_rgb=True),
    backbone=dict(
        type='VisionTransformer',
        arch=dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48),
        img_size=32,
        patch_size=8))
pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(32, 32)),
    dict(type='PackInputs')]
split = dict(type='CustomDataset', data_prefix='{root}', with_label=False, pipeline=pipeline)
val_dataloader = dict(dataset={dataset})
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'images').mkdir()
    for index, image in enumerate([data.astronaut(), data.chelsea(), data.coffee(), data.cat()]):
        cv2.imwrite(str(tmp_path / 'images' / f'{index}.png'), image[..., ::-1])
    return tmp_path


def prepare(folder: Path, dataset: str) -> tuple[str, str]:
    """Write a config and a checkpoint."""
    config = folder / 'config.py'
    config.write_text(CONFIG.format(root=folder / 'images', dataset=dataset))
    settings = runpy.run_path(str(config))['model']
    torch.manual_seed(0)
    model = MODELS.build(dict(settings, _scope_='mmpretrain'))
    torch.save(model.state_dict(), folder / 'checkpoint.pth')
    return str(config), str(folder / 'checkpoint.pth')


def run_attention(arguments: list[str], monkeypatch) -> tuple[list, Path]:
    """Run the tool and return the arguments it draws with."""
    calls = []

    def recorded(path, *args):
        calls.append(args)
        return attention.save_attention(path, *args)

    tool = runpy.run_path(str(TOOLS / 'visualize_attention.py'))
    monkeypatch.setitem(tool['main'].__globals__, 'save_attention', recorded)
    tool['main'](arguments)
    return calls[0]


@pytest.mark.parametrize('dataset', ['split', "dict(type='ibot_mm.KNNSplits', query=split)"])
def test_validation_images(folder, monkeypatch, dataset):
    out = folder / 'out' / 'attention.png'
    arguments = [*prepare(folder, dataset), '--num-images', '2', '--out', str(out)]
    images, maps, per_head = run_attention(arguments, monkeypatch)
    assert images.shape == (2, 32, 32, 3)
    assert maps.shape == (2, 3, 4, 4)
    assert not per_head
    assert imread(out).shape[1] > 300
    # Evenly spaced over the data set, in RGB.
    for image, original in zip(images, (data.astronaut(), data.cat()), strict=True):
        expected = original.mean(axis=(0, 1))
        assert abs(image.mean(axis=(0, 1)) - expected).max() < 6
        assert abs(image.mean(axis=(0, 1))[::-1] - expected).max() > 6


def test_given_images(folder, monkeypatch):
    files = [str(folder / 'images' / name) for name in ('1.png', '2.png', '0.png')]
    out = str(folder / 'attention.png')
    arguments = [*prepare(folder, 'split'), *files, '--per-head', '--out', out]
    images, maps, per_head = run_attention(arguments, monkeypatch)
    assert len(images) == len(maps) == 3
    assert per_head


def test_checkpoint_of_another_model(folder, monkeypatch):
    config, checkpoint = prepare(folder, 'split')
    torch.save({'backbone.cls_token': torch.zeros(1, 1, 24)}, checkpoint)
    with pytest.raises(ValueError, match='holds no ViT of a known format'):
        run_attention([config, checkpoint, '--out', str(folder / 'a.png')], monkeypatch)


def test_network(folder):
    select = runpy.run_path(str(TOOLS / 'visualize_attention.py'))['select_backbone']
    algorithm = torch.nn.Module()
    algorithm.backbone = torch.nn.Linear(1, 1)
    assert select(algorithm, 'teacher') is select(algorithm, 'student') is algorithm.backbone
    algorithm.teacher = torch.nn.Module()
    algorithm.teacher.backbone = torch.nn.Linear(1, 1)
    assert select(algorithm, 'teacher') is algorithm.teacher.backbone
    assert select(algorithm, 'student') is algorithm.backbone


def test_plot_curves(tmp_path, capsys):
    file = tmp_path / '20200101' / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    records = [dict(loss=3.0 - i, lr=0.1, iter=i, epoch=i, step=i) for i in (1, 2)]
    file.write_text('\n'.join(map(json.dumps, records)))
    tool = runpy.run_path(str(TOOLS / 'plot_curves.py'))
    tool['main']([str(tmp_path), '--keys', 'lr'])
    assert capsys.readouterr().out.strip() == str(tmp_path / 'curves.png')
    wide = imread(tmp_path / 'curves.png').shape[1]
    tool['main']([str(file), '--out', str(tmp_path / 'other.png')])
    assert wide == 2 * imread(tmp_path / 'other.png').shape[1]
