# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A network that sees colors, and pieces of the bundled photographs."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from ibot_mm.evaluation import Options
from ibot_mm.frozen_network import FrozenNetwork
from ibot_mm.models import MaskedVisionTransformer


@pytest.fixture(scope='session')
def photographs():
    """Name -> uint8 RGB (H, W, 3)."""
    sources = pytest.importorskip('ibot_mm.datasets.demo')
    return {photograph.name: photograph.image for photograph in sources.load_photographs('train')}


@pytest.fixture(scope='session')
def network():
    """A ViT of random weights, patches of 16 pixels."""
    torch.manual_seed(0)
    arch = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
    backbone = MaskedVisionTransformer(arch=arch, img_size=64, patch_size=16, mask_token=False)
    torch.nn.init.normal_(backbone.patch_embed.projection.weight, std=0.2)
    torch.nn.init.zeros_(backbone.pos_embed)
    return FrozenNetwork(backbone.eval().requires_grad_(False), 'vit_small_patch16')


@pytest.fixture
def options(tmp_path):
    """Features in a folder of the test."""
    return Options(work_dir=str(tmp_path / 'out'), images_per_batch=4, num_workers=0)


@pytest.fixture(scope='session')
def cut():
    """Cut a piece of a photograph out and change its brightness and size."""

    def make(image, box, size=None, factor=1.0):
        top, left, height, width = box
        piece = image[top : top + height, left : left + width]
        piece = Image.fromarray(np.clip(piece * factor, 0, 255).astype(np.uint8))
        return piece if size is None else piece.resize(size, Image.Resampling.BICUBIC)

    return make


@pytest.fixture(scope='session')
def roxford(tmp_path_factory, photographs, cut):
    """Each query's photograph three times, a little darker, moved or smaller; others beside it."""
    names = ('astronaut', 'chelsea', 'coffee', 'flower')
    root = tmp_path_factory.mktemp('retrieval')
    folder = root / 'roxford5k/jpg'
    folder.mkdir(parents=True)
    database, relevant = [], []
    for name in names:
        image = photographs[name]
        cut(image, (20, 20, 200, 160)).save(folder / f'query_{name}.jpg')
        variants = dict(
            easy=cut(image, (20, 20, 200, 160), factor=0.98),
            hard=cut(image, (10, 0, 220, 170), size=(120, 150), factor=0.8),
            junk=cut(image, (60, 40, 120, 100), size=(90, 100)),
        )
        rows = {}
        for kind, variant in variants.items():
            rows[kind] = np.array([len(database)])
            database.append(f'{name}_{kind}')
            variant.save(folder / f'{database[-1]}.jpg')
        relevant.append(rows | dict(bbx=[0.0, 0.0, 160.0, 200.0]))
    for name in ('brick', 'camera', 'china', 'coins', 'grass', 'gravel', 'rocket'):
        database.append(name)
        cut(photographs[name], (0, 0, 180, 150)).save(folder / f'{name}.jpg')
    truth = dict(imlist=database, qimlist=[f'query_{name}' for name in names], gnd=relevant)
    (root / 'roxford5k/gnd_roxford5k.pkl').write_bytes(pickle.dumps(truth, protocol=2))
    return root


@pytest.fixture(scope='session')
def videos(tmp_path_factory, photographs):
    """Two videos of different sizes and lengths; in the first there are two objects."""
    root = tmp_path_factory.mktemp('davis')
    (root / 'ImageSets/2017').mkdir(parents=True)
    (root / 'ImageSets/2017/val.txt').write_text('cat\nrocket\n')
    grass, brick = photographs['grass'], photographs['brick']
    _write_video(root, 'cat', grass, (130, 200), ['chelsea', 'coffee'], photographs, 6)
    _write_video(root, 'rocket', brick, (160, 128), ['flower'], photographs, 5)
    return root


def _write_video(root, name, behind, size, objects, photographs, number):
    frames, masks = (root / kind / '480p' / name for kind in ('JPEGImages', 'Annotations'))
    frames.mkdir(parents=True)
    masks.mkdir(parents=True)
    for time in range(number):
        frame = behind[: size[0], : size[1]].copy()
        mask = np.zeros(size, np.uint8)
        for label, kind in enumerate(objects, start=1):
            top, left = 8 + 4 * time, 90 * label - 80 + 2 * time
            place = slice(top, top + 70), slice(left, left + 64)
            frame[place] = photographs[kind][60:130, 60:124]
            mask[place] = label
        Image.fromarray(frame).save(frames / f'{time:05}.jpg', quality=95)
        image = Image.fromarray(mask)
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(masks / f'{time:05}.png')
