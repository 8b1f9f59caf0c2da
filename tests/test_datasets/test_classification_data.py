# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Subsets, iNaturalist, repeated augmentation, channels."""

import json
from unittest.mock import patch

import numpy as np
import pytest

from ibot_mm.datasets import (
    ImageSubset,
    INaturalist,
    RepeatedAugmentationSampler,
    ReverseChannels,
)

WORLD = 'mmpretrain.datasets.samplers.repeat_aug.get_dist_info'


def test_repeated_augmentation_deals_every_image_three_times():
    ranks = []
    for rank in range(3):
        with patch(WORLD, return_value=(rank, 3)):
            ranks.append(list(RepeatedAugmentationSampler(range(600), seed=0)))
    assert [len(r) for r in ranks] == [512 // 3] * 3
    assert ranks[0] == ranks[1] == ranks[2]  # three processes have a copy of each image


def test_repeated_augmentation_needs_enough_images():
    with pytest.raises(ValueError, match='lower sampler.round_to'):
        RepeatedAugmentationSampler(range(255), seed=0)
    assert len(RepeatedAugmentationSampler(range(255), round_to=8, seed=0)) == 248


def test_subset_takes_the_images_that_its_list_names(image_folder, tmp_path):
    names = tmp_path / 'names.txt'
    names.write_text('0.jpg\nclass_1/2.jpg\n')
    data = ImageSubset(data_root=str(image_folder), data_prefix='train', subset_file=str(names))
    assert [info['gt_label'] for info in data] == [0, 0, 1, 1]
    names.write_text('0.jpg\nn01440764_1.JPEG\n')
    with pytest.raises(ValueError, match=r"1 of the 2 images .* \['n01440764_1.JPEG'\]"):
        ImageSubset(data_root=str(image_folder), data_prefix='train', subset_file=str(names))


def write_annotations(path, names):
    categories = [dict(id=10 + i, name=name) for i, name in enumerate(sorted(set(names)))]
    ids = {category['name']: category['id'] for category in categories}
    path.write_text(
        json.dumps(
            dict(
                categories=categories,
                images=[dict(id=i, file_name=f'{i}.jpg') for i in range(len(names))],
                annotations=[dict(image_id=i, category_id=ids[n]) for i, n in enumerate(names)],
            )
        )
    )


def test_inaturalist_numbers_classes_by_first_appearance(tmp_path):
    write_annotations(tmp_path / 'train.json', ['wren', 'ant', 'wren', 'bee'])
    write_annotations(tmp_path / 'val.json', ['ant', 'bee'])
    files = dict(data_root=str(tmp_path), class_file='train.json')
    assert INaturalist('train.json', **files).get_gt_labels().tolist() == [0, 1, 0, 2]
    val = INaturalist('val.json', **files)
    assert val.get_gt_labels().tolist() == [1, 2] and val.CLASSES == ('wren', 'ant', 'bee')
    assert val[0]['img_path'] == str(tmp_path / '0.jpg')
    write_annotations(tmp_path / 'val.json', ['cat'])
    with pytest.raises(ValueError, match="class 'cat'"):
        INaturalist('val.json', **files)


def test_channels_are_reversed():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    assert (ReverseChannels()(dict(img=image))['img'][..., 0] == image[..., 2]).all()
