# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
import pytest

from ibot_mm.datasets import Corrupt
from ibot_mm.functional.corruptions import corrupt

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def test_it_corrupts_bgr_by_the_number_of_the_image():
    transform = Corrupt('gaussian_noise', severity=2, seed=3, jpeg_quality=90)
    found = transform(dict(img=IMAGE[..., ::-1].copy(), sample_idx=7))['img']
    expected = corrupt(IMAGE, 'gaussian_noise', 2, seed=3, number=7, jpeg_quality=90)
    assert np.array_equal(found[..., ::-1], expected) and found.flags.c_contiguous
    assert not np.array_equal(found, transform(dict(img=IMAGE, sample_idx=8))['img'])
    for word in ('gaussian_noise', 'severity=2', 'seed=3', 'jpeg_quality=90'):
        assert word in repr(transform)  # it stands in keys of caches


@pytest.mark.parametrize(
    'changes, message',
    [
        (dict(corruption='hail'), "unknown corruption 'hail'"),
        (dict(severity=6), r'severity must be a whole number in \[1, 5\], got 6'),
        (dict(seed=-1), r'seed must be a whole number in \[0, inf\)'),
        (dict(jpeg_quality=0), r'jpeg_quality must be a whole number in \[1, 100\]'),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Corrupt(**(dict(corruption='fog') | changes))
