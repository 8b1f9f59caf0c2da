# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate, pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.datasets.knn_splits import KNNSplits

CLASSES = ('dark', 'light', 'middle')  # in the order of their folders
BRIGHTNESS = dict(dark=30, middle=120, light=210)
BANK_SIZE, QUERY_SIZE = 15, 6
PIPELINE = [dict(type='mmpretrain.LoadImageFromFile'), dict(type='mmpretrain.PackInputs')]


def write_images(folder: Path, images_per_class: int, classes: tuple[str, ...] = CLASSES) -> None:
    generator = np.random.default_rng(images_per_class)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(images_per_class):
            image = generator.integers(-20, 20, (8, 8, 3)) + BRIGHTNESS.get(name, 0)
            cv2.imwrite(str(folder / name / f'{number}.png'), image.clip(0, 255).astype(np.uint8))


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / 'train', 5)
    write_images(tmp_path / 'val', 2)
    return tmp_path


def split(folder: Path, **kwargs) -> dict:
    return dict(
        type='mmpretrain.CustomDataset', data_prefix=str(folder), pipeline=PIPELINE, **kwargs
    )


def config(root: Path, **kwargs) -> dict:
    splits = dict(bank=split(root / 'train'), query=split(root / 'val'))
    return dict(type='ibot_mm.KNNSplits', **splits | kwargs)


def test_bank_comes_first_and_samples_are_marked(root):
    dataset = DATASETS.build(config(root))
    assert isinstance(dataset, KNNSplits)
    assert len(dataset) == BANK_SIZE + QUERY_SIZE
    assert dataset.metainfo['classes'] == CLASSES
    samples = [dataset[index]['data_samples'] for index in range(len(dataset))]
    assert [s.knn_split for s in samples] == ['bank'] * BANK_SIZE + ['query'] * QUERY_SIZE
    assert [s.knn_index for s in samples] == list(range(len(dataset)))
    for sample in samples:
        folder = dict(bank='train', query='val')[sample.knn_split]
        name = CLASSES[int(sample.gt_label)]
        assert Path(sample.img_path).parent == root / folder / name
    assert dataset[-1]['data_samples'].knn_index == len(dataset) - 1
    with pytest.raises(IndexError):
        dataset[len(dataset)]


@pytest.mark.parametrize('collate', [default_collate, pseudo_collate])
def test_marks_survive_collation(root, collate):
    dataset = KNNSplits(split(root / 'train'), split(root / 'val'))
    batch = collate([dataset[0], dataset[BANK_SIZE]])
    assert [sample.knn_split for sample in batch['data_samples']] == ['bank', 'query']
    assert [sample.knn_index for sample in batch['data_samples']] == [0, BANK_SIZE]


def test_splits_may_differ_in_other_metainfo(root):
    dataset = KNNSplits(
        split(root / 'train', metainfo=dict(source='here')),
        DATASETS.build(split(root / 'val', metainfo=dict(source='there', extra=1))),
    )
    assert len(dataset) == BANK_SIZE + QUERY_SIZE


class MeanColor(BaseModel):
    """Smallest model with features: the mean color around the middle of the range."""

    def forward(self, inputs: Tensor, data_samples: list, mode: str = 'tensor') -> list:
        images = torch.stack(inputs) if isinstance(inputs, list) else inputs
        features = images.float().mean(dim=(2, 3)) - 120
        features = torch.cat([features, torch.full((len(features), 1), 30.0)], dim=1)
        for sample, feature in zip(data_samples, features, strict=True):
            sample.set_field(feature, 'feature')
        return data_samples


@pytest.mark.parametrize('num_workers', [0, 1])
def test_validation_loop(root, num_workers, tmp_path):
    runner = Runner(
        model=MeanColor(),
        work_dir=str(tmp_path / 'work'),
        val_dataloader=dict(
            batch_size=4,
            num_workers=num_workers,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='default_collate'),
            dataset=config(root),
        ),
        val_evaluator=dict(type='ibot_mm.KNNAccuracy', ks=(1, 5)),
        val_cfg=dict(),
        default_scope='mmpretrain',
        experiment_name=f'knn_{num_workers}',
    )
    metrics = runner.val()
    # Three well separated colors and as many neighbors as a class has: no mistake is possible.
    assert {name: value for name, value in metrics.items() if name.startswith('knn')} == {
        'knn/top1_k1': 100.0,
        'knn/top5_k1': 100.0,
        'knn/top1_k5': 100.0,
        'knn/top5_k5': 100.0,
    }


@pytest.mark.parametrize('name', ['bank', 'query'])
def test_unlabeled_split(root, name):
    folder = dict(bank='train', query='val')[name]
    with pytest.raises(ValueError, match=f'the {name} split of KNNSplits has no labels'):
        DATASETS.build(config(root, **{name: split(root / folder, with_label=False)}))


@pytest.mark.parametrize('name', ['bank', 'query'])
@pytest.mark.parametrize('serialize_data', [True, False])
def test_empty_split(root, name, serialize_data):
    (root / 'empty.txt').touch()
    empty = split(
        root, ann_file=str(root / 'empty.txt'), serialize_data=serialize_data, classes=CLASSES
    )
    with pytest.raises(ValueError, match=f'the {name} split of KNNSplits is empty'):
        DATASETS.build(config(root, **{name: empty}))


def test_different_class_names(root):
    write_images(root / 'other', 2, ('dark', 'light', 'red'))
    with pytest.raises(ValueError, match="class 2 is 'middle' in the bank and 'red' in the query"):
        DATASETS.build(config(root, query=split(root / 'other')))


def test_different_number_of_classes(root):
    write_images(root / 'other', 2, ('dark', 'light'))
    with pytest.raises(ValueError, match='got 3 and 2 classes'):
        DATASETS.build(config(root, query=split(root / 'other')))


def test_pipeline_without_data_samples(root):
    query = split(root / 'val') | dict(pipeline=PIPELINE[:1])
    dataset = DATASETS.build(config(root, query=query))
    with pytest.raises(KeyError, match='end it with mmpretrain.PackInputs'):
        dataset[BANK_SIZE]
