# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Every store gives the samples that the folder gives."""

import pickle

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from mmpretrain.datasets import build_dataset
from packed_images import KINDS, batches_of, pipeline

from ibot_mm.datasets import ImageFolder, KNNSplits, LoadImage

ALL = pytest.mark.parametrize('kind', KINDS)


@pytest.fixture
def build(stored):
    def build(kind, **options):
        dataset_class, arguments = stored(kind)
        options.setdefault('pipeline', pipeline())
        return dataset_class(**arguments | options)

    return build


@pytest.fixture(scope='session')
def of_folder(image_tree):
    """Two epochs of the folder's batches."""
    return batches_of(ImageFolder(str(image_tree), with_label=True, pipeline=pipeline()))


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for (*crops, skipped), (*other_crops, other_skipped) in zip(batches, others, strict=True):
        for crop, other in zip(crops, other_crops, strict=True):
            np.testing.assert_array_equal(crop, other)
        assert skipped == other_skipped


@ALL
def test_crops_labels_and_replacements_are_the_folders(kind, build, of_folder, image_tree):
    dataset = build(kind, with_label=True)
    batches = batches_of(dataset)
    assert_equal(batches, of_folder)
    assert sum(sum(skipped) for *_, skipped in batches) >= 2  # the broken image, in both epochs
    folder = ImageFolder(str(image_tree), with_label=True)
    assert list(dataset.get_gt_labels()) == list(folder.get_gt_labels())
    assert dataset.metainfo['classes'] == folder.metainfo['classes']
    assert [dataset.get_cat_ids(i) for i in range(12)] == [folder.get_cat_ids(i) for i in range(12)]


@pytest.mark.parametrize('kind', ['zip', 'lmdb'])
def test_without_labels_the_order_is_the_folders(kind, build, image_tree):
    dataset, folder = build(kind), ImageFolder(str(image_tree))
    for number in range(len(folder)):
        info, other = (part.get_data_info(number) for part in (dataset, folder))
        name = other['img_path'].removeprefix(f'{image_tree}/')
        assert info['img_path'].endswith(f'/{name}') and 'gt_label' not in info


@ALL
@pytest.mark.slow
def test_workers_change_nothing(kind, build, of_folder):
    dataset = build(kind, with_label=True)
    dataset.get_data_info(0)['img_file'].read_bytes()  # this process has opened the store
    assert_equal(batches_of(dataset, 3), of_folder)


@ALL
def test_going_on_within_an_epoch(kind, build, of_folder):
    assert_equal(batches_of(build(kind, with_label=True), skip=2), of_folder[2:])


@ALL
def test_parts_and_copies(kind, build):
    dataset = build(kind, with_label=True)
    whole = [dataset.get_data_info(i) for i in range(12)]
    cases = {3: whole[:3], -2: whole[-2:], (7, 1): [whole[7], whole[1]]}
    for indices, expected in cases.items():
        part = build(kind, with_label=True, indices=list(indices) if indices == (7, 1) else indices)
        for subset in (part, dataset.get_subset(part._indices), pickle.loads(pickle.dumps(part))):
            infos = [subset.get_data_info(i) for i in range(len(subset))]
            assert [i['img_path'] for i in infos] == [i['img_path'] for i in expected]
            assert list(subset.get_gt_labels()) == [i['gt_label'] for i in expected]
            for info, other in zip(infos, expected, strict=True):
                assert info['img_file'].read_bytes() == other['img_file'].read_bytes()


@ALL
def test_built_by_name_for_nearest_neighbors(kind, stored):
    init_default_scope('mmpretrain')
    dataset_class, arguments = stored(kind)
    config = dict(
        type=f'ibot_mm.{dataset_class.__name__}',
        with_label=True,
        pipeline=dict(order=['load', 'pack'], load=dict(type='ibot_mm.LoadImage'),
                      pack=dict(type='mmpretrain.PackInputs')),
        test_mode=True,
        **arguments,
    )  # fmt: skip
    splits = KNNSplits(build_dataset(config), build_dataset(config))
    assert len(splits) == 24 and splits[12]['data_samples'].gt_label.item() == 0
    with pytest.raises(RuntimeError, match=r'cannot read image .*(apple_2\.JPEG|0002\.jpeg|/2) \('):
        splits[2]


def test_a_loader_of_files_is_refused(stored):
    dataset_class, arguments = stored('tar')
    with pytest.raises(ValueError, match='LoadImageFromFile reads files only'):
        dataset_class(pipeline=[dict(type='LoadImageFromFile')], **arguments)
    with pytest.raises(ValueError, match='data_root is empty'):
        dataset_class(pipeline=[LoadImage()])
