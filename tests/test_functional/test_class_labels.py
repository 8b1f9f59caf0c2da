# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest

from ibot_mm.functional.class_labels import absent_classes, class_difference


@pytest.mark.parametrize(
    'train, val, expected',
    [
        ('abc', 'abc', None),
        ('abc', 'abd', "only train has 'c'; only val has 'd'"),
        ('abc', 'ab', "only train has 'c'"),
        ('ab', 'ba', "their order differs, 'a', 'b' in train and 'b', 'a' in val"),
        ('abcdef', 'a', "only train has 'b', 'c', 'd', 'e', ..."),
    ],
)
def test_class_difference(train, val, expected):
    assert class_difference(dict(train=train, val=val)) == expected


@pytest.mark.parametrize(
    'labels, names, expected',
    [
        (dict(train=[0, 1, 2], val=[2, 1, 0]), None, None),
        (dict(train=[0, 1, 2], val=[2]), None, 'val has no image of 2 of the 3 classes: 0, 1'),
        (dict(train=[0, 2], val=[1]), 'xyz', "train has no image of 1 of the 3 classes: 'y'"),
    ],
)
def test_absent_classes(labels, names, expected):
    assert absent_classes(labels, range(3), names) == expected
