# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import pytest
from mmpretrain.models import VisionTransformer

from ibot_mm.config_check.signatures import find_unknown, read_signature
from ibot_mm.datasets import ImageFolder
from ibot_mm.models import MaskedVisionTransformer, TimmVisionTransformer


class Base:
    def __init__(self, width, depth=1):
        self.width, self.depth = width, depth


class HandsOn(Base):
    def __init__(self, extra=0, **kwargs):
        self.size = kwargs.pop('size', 1)
        self.known = 'height' in kwargs and kwargs['height']
        super().__init__(**kwargs)


class Fills(Base):
    def __init__(self, **kwargs):
        super().__init__(width=1, **kwargs)


class Keeps(Base):
    def __init__(self, **kwargs):
        self.kept = kwargs


class Swallows(Base):
    def __init__(self, extra=0, **kwargs):
        super().__init__(extra)


def function(width, depth=1):
    return width, depth


@pytest.mark.parametrize(
    ('target', 'names', 'required', 'is_open'),
    [
        (Base, 'width depth', 'width', False),
        (HandsOn, 'extra size height width depth', '', False),
        (Fills, 'width depth', '', False),
        (Keeps, '', '', True),
        (Swallows, 'extra', '', False),  # what is swallowed has no effect
        (function, 'width depth', 'width', False),
    ],
)
def test_arguments(target, names, required, is_open):
    signature = read_signature(target)
    assert signature.is_open == is_open
    assert signature.names == set(names.split()) and signature.required == set(required.split())


def test_arguments_of_bases_in_other_packages():
    own = read_signature(MaskedVisionTransformer)
    assert not own.is_open and read_signature(VisionTransformer).names <= own.names
    assert {'num_registers', 'drop_path_rate', 'init_cfg'} <= own.names
    folder = read_signature(ImageFolder)
    assert not folder.is_open and {'indices', 'max_refetch', 'metainfo'} <= folder.names
    assert read_signature(TimmVisionTransformer).is_open  # timm says what it takes


def test_nearest_key():
    (fault,) = find_unknown(['widht', 'depth'], {'width', 'depth'}, 'Base')
    assert fault == "Base does not take 'widht'; is 'width' meant?"
    (fault,) = find_unknown(['zzz'], {'width', 'depth'}, 'Base')
    assert fault.endswith('it takes depth, width')
