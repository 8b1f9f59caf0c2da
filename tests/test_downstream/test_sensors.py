# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images of six bands of 16 bits, end to end: pre-training, k-NN, segmentation, detection."""

import cv2
import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config

from ibot_mm.checkpoint import CheckpointError
from ibot_mm.datasets.measure_channels import measure_channels
from ibot_mm.datasets.transforms import LoadImage

from .conftest import CONFIGS, backward, build, detection_batch

LOAD = dict(channels=6, in_range=(0, 60000), to_float32=True)
ARCH = dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=32)


def bands(pixels, rng):
    """Six bands of an RGB photograph (H, W, 3), as a sensor of 16 bits may see it."""
    red, green, blue = pixels.astype(np.float64).transpose(2, 0, 1) * 230
    mixed = [blue, green, red, 0.3 * red + 0.7 * green, 58650 - red, 0.5 * (green + blue)]
    noisy = np.stack(mixed) + rng.normal(0, 50, (6, *red.shape))
    return noisy.clip(0, 60000).astype(np.uint16)


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    """Photographs of two classes for k-NN, and maps of bright and dark for segmentation."""
    root, rng = tmp_path_factory.mktemp('bands'), np.random.default_rng(0)
    sources = [skimage.data.astronaut(), skimage.data.coffee()]
    for split, folder, number in (('train', 'training', 4), ('val', 'validation', 2)):
        for place in (f'images/{folder}', f'annotations/{folder}'):
            (root / place).mkdir(parents=True)
        for label, source in enumerate(sources):
            (root / split / f'class_{label}').mkdir(parents=True)
            for index in range(number):
                top, left = rng.integers(0, 300, 2)
                pixels = source[top : top + 48, left : left + 48]
                image = bands(pixels, rng)
                name = f'{label}_{index}'
                for path in (f'{split}/class_{label}/{name}', f'images/{folder}/{name}'):
                    tifffile.imwrite(root / f'{path}.tif', image, photometric='minisblack')
                classes = 1 + (pixels[..., 0] > 100).astype(np.uint8)
                cv2.imwrite(str(root / f'annotations/{folder}/{name}.png'), classes)
    return root


@pytest.fixture(scope='module')
def statistics(scenes):
    paths = [str(path) for path in sorted(scenes.glob('train/*/*.tif'))]
    return measure_channels(paths, LoadImage(**LOAD))


@pytest.fixture
def pretraining(scenes, statistics, shrink):
    cfg = shrink('pretrain/ibot_vits16_multispectral.py', scenes)
    cfg.model.backbone.update(arch=ARCH, in_channels=6)
    cfg.model.data_preprocessor.update(mean=statistics.mean, std=statistics.std)
    splits = [cfg.val_dataloader.dataset[split] for split in ('bank', 'query')]
    for dataset in (cfg.train_dataloader.dataset, *splits):
        dataset.pipeline.load.update(LOAD)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.train_cfg.update(max_epochs=2, val_interval=2)
    return cfg


def segmentation(scenes, statistics, checkpoint, work_dir):
    """The demo's linear head, with the lines of docs/sensors.md."""
    cfg = Config.fromfile(CONFIGS / 'seg/linear_vit_demo.py')
    load = [
        dict(type='ibot_mm.LoadImage', **LOAD),
        dict(type='ibot_mm.NormalizeChannels', mean=statistics.mean, std=statistics.std),
    ]
    cfg.model.data_preprocessor.update(mean=None, std=None, bgr_to_rgb=False, size=(32, 32))
    cfg.model.backbone.update(arch=ARCH, img_size=16, patch_size=4, in_channels=6)
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    cfg.model.decode_head.update(in_channels=[16] * 4, channels=64, num_classes=2)
    crop = [dict(type='RandomCrop', crop_size=(32, 32)), dict(type='PackSegInputs')]
    resize = dict(type='Resize', scale=(32, 32), keep_ratio=True)
    annotations = dict(type='LoadAnnotations', reduce_zero_label=True)
    pipelines = dict(
        train=[*load, annotations, *crop],
        val=[*load, resize, annotations, dict(type='PackSegInputs')],
    )
    for split, pipeline in pipelines.items():
        loader = cfg[f'{split}_dataloader']
        loader.update(num_workers=0, persistent_workers=False, batch_size=2)
        loader.dataset.update(data_root=f'{scenes}/', img_suffix='.tif', pipeline=pipeline)
        loader.dataset.metainfo = dict(classes=('dark', 'bright'), palette=[[0] * 3, [255] * 3])
        loader.dataset.pop('indices', None)
    cfg.test_dataloader = cfg.val_dataloader
    cfg.train_cfg.update(max_iters=4, val_interval=4)
    cfg.default_hooks.logger.interval = 1
    cfg.work_dir, cfg.launcher = str(work_dir), 'none'
    return cfg


@pytest.mark.slow
def test_end_to_end(pretraining, scenes, statistics, train, tmp_path):
    runner = train(pretraining)
    accuracy = runner.message_hub.get_scalar('val/knn/top1_k1').current()
    assert runner.epoch == 2 and 0 <= accuracy <= 100
    trained = runner.model.teacher.backbone.state_dict()
    assert trained['patch_embed.projection.weight'].shape == (16, 6, 4, 4)
    checkpoint = tmp_path / 'work_dir/epoch_2.pth'
    runner = train(segmentation(scenes, statistics, checkpoint, tmp_path / 'segmentation'))
    assert runner.iter == 4
    assert 0 <= runner.message_hub.get_scalar('val/mIoU').current() <= 100
    for name, weight in trained.items():  # frozen
        assert torch.equal(runner.model.backbone.state_dict()[name], weight), name


def test_statistics(scenes, statistics):
    """Mean and deviation over all pixels, on the scale of 0 to 255."""
    files = sorted(scenes.glob('train/*/*.tif'))
    pixels = np.stack([tifffile.imread(path) for path in files]).astype(float) / 60000 * 255
    assert statistics.num_images == 8
    np.testing.assert_allclose(statistics.mean, pixels.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(statistics.std, pixels.std((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(statistics.lowest, (pixels == 0).mean((0, 2, 3)), rtol=1e-5)


@pytest.mark.slow
def test_detection(save_checkpoint):
    """From weights of RGB, which are inflated."""
    cfg = Config.fromfile(CONFIGS / 'det/faster_rcnn_vit_demo.py')
    arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
    checkpoint = save_checkpoint(arch=arch, img_size=32, patch_size=8)
    cfg.model.data_preprocessor.update(mean=None, std=None, bgr_to_rgb=False)
    cfg.model.backbone.in_channels = 6
    cfg.model.backbone.init_cfg.update(checkpoint=str(checkpoint), inflate=[2, 1, 0, 0, None, 1])
    model = build(cfg)
    model.init_weights()
    kernel = torch.load(checkpoint)['state_dict']['teacher.backbone.patch_embed.projection.weight']
    torch.testing.assert_close(
        model.backbone.state_dict()['patch_embed.projection.weight'][:, :3], kernel.flip(1) / 2
    )
    batch = demo_mm_inputs(2, [(6, 64, 96)] * 2, num_items=[3, 2])
    backward(model, model.data_preprocessor(batch, training=True))


@pytest.mark.parametrize('in_channels', [3, 6])
def test_photographs_for_a_detector_of_six_channels(save_checkpoint, in_channels):
    """The preprocessor of RGB is left as it is, and the weights are of six channels."""
    cfg = Config.fromfile(CONFIGS / 'det/faster_rcnn_vit_demo.py')
    arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)
    checkpoint = save_checkpoint(arch=arch, img_size=32, patch_size=8, in_channels=6)
    cfg.model.backbone.in_channels = in_channels
    cfg.model.backbone.init_cfg.checkpoint = str(checkpoint)
    model = build(cfg)
    if in_channels == 3:
        with pytest.raises(
            CheckpointError, match='6 in the checkpoint, 3 in the backbone; set in_channels=6'
        ):
            model.init_weights()
        return
    model.init_weights()
    batch = detection_batch(model)
    with pytest.raises(ValueError, match='Images have 3 channels, and the backbone takes 6: set'):
        model(**batch, mode='loss')
