# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, default_collate
from mmengine.registry import init_default_scope
from mmpretrain.registry import TRANSFORMS

from ibot_mm.datasets.transforms import MultiCrop, PackMultiCrop

PIPELINE = [
    dict(type='ibot_mm.LoadImage'),
    dict(type='ibot_mm.MultiCrop', num_local_crops=3),
    dict(type='ibot_mm.PhotometricAugmentation'),
    dict(type='ibot_mm.MaskGenerator'),
    dict(type='ibot_mm.PackMultiCrop'),
]


@pytest.fixture
def batch(image_files):
    """Two images through the pipeline, built by name from the scope of mmpretrain."""
    init_default_scope('mmpretrain')
    pipeline = Compose([TRANSFORMS.build(step) for step in PIPELINE])
    samples = [
        dict(img_path=path, sample_idx=i, gt_label=i) for i, path in enumerate(image_files[:2])
    ]
    return default_collate([pipeline(sample) for sample in samples])


def test_a_few_dense_tensors(batch):
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in batch['inputs'].items()}
    assert shapes == dict(
        global_crops=((2, 2, 3, 224, 224), torch.uint8),
        local_crops=((2, 3, 3, 96, 96), torch.uint8),
        masks=((2, 2, 14, 14), torch.bool),
        augmentation=((2, 5, 11), torch.float32),
    )
    assert all(value.is_contiguous() for value in batch['inputs'].values())


def test_data_samples(batch, image_files):
    assert [sample.img_path for sample in batch['data_samples']] == image_files[:2]
    assert [sample.sample_idx for sample in batch['data_samples']] == [0, 1]
    assert [sample.gt_label.item() for sample in batch['data_samples']] == [0, 1]


def test_pixels_keep_their_place(photographs):
    results = MultiCrop(2, 32, num_local_crops=2, local_crop_size=16)(dict(img=photographs[0]))
    inputs = PackMultiCrop()(results)['inputs']
    packed = [*inputs['global_crops'], *inputs['local_crops']]
    for crop, tensor in zip(results['img'], packed, strict=True):
        assert (tensor.numpy() == crop.transpose(2, 0, 1)).all()


def test_without_local_crops_masks_and_augmentation(photographs):
    packed = PackMultiCrop()(dict(img=[photographs[0], photographs[0][:, ::-1]]))
    assert list(packed['inputs']) == ['global_crops']
    mirrored = packed['inputs']['global_crops'][1].numpy()
    assert (mirrored == photographs[0][:, ::-1].transpose(2, 0, 1)).all()
    assert 'gt_label' not in packed['data_samples']


@pytest.mark.parametrize(
    'crops',
    [
        [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)],
        [np.zeros((8, 8, 3), np.float64)],
        [np.zeros((8, 8), np.uint8)],
    ],
)
def test_crops_must_be_alike(crops):
    with pytest.raises(ValueError, match='PackMultiCrop needs uint8 or float32 crops'):
        PackMultiCrop()(dict(img=crops))
