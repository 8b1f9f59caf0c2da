# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The tools, as users call them, on a network of two layers and some photographs."""

import json
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from skimage import data

import ibot_mm
from ibot_mm.create import create_backbone
from ibot_mm.models import IBOTNeck
from ibot_mm.visualization import write_video

pytestmark = pytest.mark.slow

TOOLS = Path(ibot_mm.__file__).parents[1] / 'tools' / 'analysis_tools'
ARCH = dict(embed_dims=24, num_layers=2, num_heads=3, feedforward_channels=48)
NETWORK = ('--assume', 'num_heads=3')
PHOTOS = dict(astronaut='people', camera='people', chelsea='cats', coffee='things', rocket='things')


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Photographs of unequal size in class folders, a video, a checkpoint and a backbone alone."""
    folder = tmp_path_factory.mktemp('pictures')
    for name, kind in PHOTOS.items():
        (folder / 'photos' / kind).mkdir(parents=True, exist_ok=True)
        image = getattr(data, name)()[::4, ::4]
        cv2.imwrite(str(folder / 'photos' / kind / f'{name}.png'), image[..., ::-1])
    (folder / 'empty').mkdir()
    frames = [data.astronaut()[i : i + 64, i : i + 96] for i in range(4)]
    write_video(folder / 'video.avi', frames, 5)
    (folder / 'broken.mp4').write_text('not a video')
    (folder / 'broken.png').write_bytes(b'not an image')
    torch.manual_seed(0)
    backbone = create_backbone('vit_tiny_patch8', arch=ARCH, img_size=32)
    neck = IBOTNeck(24, 6, hidden_channels=12, bottleneck_channels=6)
    state = {f'teacher.backbone.{name}': t for name, t in backbone.state_dict().items()}
    torch.save(dict(state_dict=state), folder / 'backbone.pth')
    state |= {f'teacher.neck.{name}': t for name, t in neck.state_dict().items()}
    torch.save(dict(state_dict=state), folder / 'checkpoint.pth')
    return folder


def run(folder: Path, kind: str, *arguments: object, checkpoint: str = 'checkpoint.pth') -> None:
    tool = runpy.run_path(str(TOOLS / 'visualize_network.py'))
    words = [str(folder / word) if (folder / str(word)).exists() else word for word in arguments]
    tool['main']([kind, str(folder / checkpoint), *map(str, words), *NETWORK])


KINDS = {
    'attention': ('photos', '--image-size', 32),
    'attention, heads': ('photos', '--image-size', 32, '--per-head', '--mass', 0.8, '--layer', 1),
    'attention, as published': ('photos', '--image-size', 48, 32, '--mass', 0),
    'pca': ('photos', '--image-size', 40),
    'pca, all': ('photos', '--image-size', 40, '--all-patches', '--layer', 1),
    'similarity': ('photos/cats', '--image-size', 32),
    'similarity, points': ('photos', '--image-size', 32, '--points', '5,5', '60,40'),
    'correspondence': ('photos/people', '--image-size', 32),
    'correspondence, views': ('photos', '--image-size', 32, '--views', '--num-drawn', 3),
    'correspondence, frames': ('video.avi', '--image-size', 32, '--frames', 0, 3),
    'neighbors': ('photos/cats', '--gallery', 'photos', '--image-size', 32),
    'embedding': ('photos', '--image-size', 32),
    'embedding, pca': ('photos', '--image-size', 32, '--method', 'pca'),
    'patterns': ('photos', '--image-size', 32, '--num-members', 4),
    'patterns, cls': ('photos', '--image-size', 32, '--token', 'cls'),
}


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind(folder, tmp_path, kind, capsys):
    out = tmp_path / 'new' / 'picture.png'
    run(folder, kind.split(',')[0], *KINDS[kind], '--out', out)
    printed = capsys.readouterr().out.strip().splitlines()
    assert printed[-1] == str(out)
    if kind == 'correspondence, views':
        assert '% of the matches in the overlap are right, views of 5 images' in printed[-2]
    picture = imread(out)
    assert min(picture.shape[:2]) > 200
    assert len(np.unique((picture[..., :3] * 7).round(), axis=0)) > 50  # something is drawn
    columns = {'attention': 6, 'attention, as published': 6, 'neighbors': 5}
    if kind in columns:
        assert picture.shape[1] == round(
            columns[kind] * (1.4 if kind == 'neighbors' else 1.9) * 150
        )


def test_video(folder, tmp_path, capsys):
    for name, frames in (('out.mp4', 4), ('out.gif', 2)):
        every = 4 // frames
        options = ('--image-size', 32, '--every', every, '--out', tmp_path / name)
        run(folder, 'attention', 'video.avi', *options)
        assert capsys.readouterr().out.strip().endswith(str(tmp_path / name))
        if name == 'out.gif':
            animation = Image.open(tmp_path / name)
            assert animation.n_frames == frames and animation.info['duration'] == 400
            assert animation.size == (144, 54)
        else:
            video = cv2.VideoCapture(str(tmp_path / name))
            assert video.get(cv2.CAP_PROP_FRAME_COUNT) == frames
            assert video.get(cv2.CAP_PROP_FPS) == 5


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('attention', 'empty'), 'no images in .*empty'),
        (('attention', 'broken.png'), 'cannot read image .*broken.png'),
        (('attention', 'gone.png'), 'gone.png is not there'),
        (('attention', 'broken.mp4'), 'broken.mp4 is not a video that OpenCV can read'),
        (('attention', 'video.avi', 'photos'), 'one video, or images'),
        (('attention', 'photos', '--mass', '2'), r'mass must be in \(0, 1\]'),
        (('attention', 'photos', '--layer', '3'), 'layer must be between 1 and 2'),
        (('attention', 'photos', '--registers'), 'has no registers to show'),
        (('attention', 'photos', '--image-size', '1', '2', '3'), 'or height and width'),
        (('pca', 'photos', '--image-size', '7'), 'smaller than one patch of 8 x 8'),
        (('similarity', 'photos', '--points', '900,0'), 'x=900, y=0 is outside'),
        (('correspondence', 'photos/cats'), 'needs two images, got 1: give two, --views'),
        (('correspondence', 'photos', '--views', '--image-size', '9', '9'), 'views are squares'),
        (('correspondence', 'photos', '--views', '--image-size', '36'), '--image-size 32 does'),
        (('correspondence', 'video.avi', '--frames', '0', '9'), 'there is not a frame 9'),
        (('neighbors', 'photos/cats', '--gallery', 'photos/cats'), 'nothing but the images'),
        (('embedding', 'photos/people'), 'at least 4 of them, got 2'),
        (('patterns', 'photos', '--image-size', '32', '--num-members', '0'), 'num_members must be'),
    ],
    ids=lambda value: ' '.join(map(str, value)) if isinstance(value, tuple) else '',
)
def test_wrong_inputs_are_one_error(folder, tmp_path, arguments, message):
    size = () if '--image-size' in arguments else ('--image-size', 32)
    with pytest.raises(SystemExit, match=message):
        run(folder, *arguments, *size, '--out', tmp_path / 'picture.png')
    assert not (tmp_path / 'picture.png').exists()


def test_patterns_of_a_backbone_alone(folder):
    with pytest.raises(SystemExit, match=r'backbone.pth \(teacher\) has no projection head'):
        run(folder, 'patterns', 'photos', '--image-size', 32, checkpoint='backbone.pth')


def test_a_missing_library_is_told_before_weights_are_read(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'umap', None)
    with pytest.raises(SystemExit, match='pip install umap-learn'):
        run(folder, 'embedding', 'photos', '--method', 'umap', checkpoint='gone.pth')


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
