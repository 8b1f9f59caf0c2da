# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Part-wise linear probing on train and val folders of pieces of photographs."""

from dataclasses import replace

import pytest
import torch

from ibot_mm.evaluation import DataError, Options, best_of
from ibot_mm.evaluation.tasks.part_linear import (
    PartExtractor,
    PartLinearSettings,
    attention_and_patches,
    check_part_linear,
    part_linear,
)
from ibot_mm.evaluation.views import prepare

CLASSES = ('brick', 'chelsea', 'grass')


@pytest.fixture(scope='session')
def pieces(tmp_path_factory, photographs, cut):
    """Pieces of three photographs, of unequal size."""
    root = tmp_path_factory.mktemp('pieces')
    for split, number, start in (('train', 6, 0), ('val', 3, 90)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                box = (start + 8 * index, 10 * index, 90 + 4 * index, 80)
                cut(photographs[name], box).save(folder / f'{index}.png')
    return root


def with_settings(options, **settings):
    given = dict(num_patches=(1, 4), image_size=64) | settings
    return replace(
        options, tasks=dict(part_linear=given), epochs=30, learning_rates=(0.01, 0.1, 1.0)
    )


def test_parts_tell_the_photograph(pieces, network, options):
    found = part_linear(network, pieces, with_settings(options))
    assert [m.setting['patches'] for m in found] == ['1 most attended'] * 3 + [
        '4 most attended'
    ] * 3
    assert [m.setting['lr'] for m in found[:3]] == [0.01, 0.1, 1.0]
    assert best_of(found[3:]).metrics['top1'] > 60  # chance: 33
    least = part_linear(network, pieces, with_settings(options, least=True))
    assert least[0].setting['patches'] == '1 least attended'
    assert [m.metrics for m in least] != [m.metrics for m in found]


def test_features_are_means_of_the_most_attended(network):
    images = prepare(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    attention, patches = attention_and_patches(network, images)
    assert attention.shape == (2, 16) and patches.shape == (2, 16, 24)
    raw = network.backbone.last_blocks(images, 1, final_norm=False)[0]
    torch.testing.assert_close(patches, raw[:, 1:])
    features = PartExtractor(network, PartLinearSettings((1, 16)))(images)
    first = attention.argmax(dim=1)
    torch.testing.assert_close(features[:, :24], patches[[0, 1], first])
    torch.testing.assert_close(features[:, 24:], patches.mean(dim=1))


def test_more_patches_than_there_are(pieces, network, options):
    with pytest.raises(ValueError, match='64 x 64 pixels have 16 patches, fewer than 17'):
        part_linear(network, pieces, with_settings(options, num_patches=(1, 17)))


def test_data_and_options_that_do_not_serve(pieces):
    with pytest.raises(DataError, match='there is no folder .*val/train'):
        check_part_linear(pieces / 'val', Options())
    with pytest.raises(ValueError, match='num_patches must be at least 1'):
        check_part_linear(pieces, Options(tasks=dict(part_linear=dict(num_patches=0))))
