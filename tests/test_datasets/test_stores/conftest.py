# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The same few images as a folder, and in every kind of store."""

import numpy as np
import pytest
from packed_images import CLASSES, KINDS
from PIL import Image


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """Keep what is counted away from the user's."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.fixture(scope='session')
def image_tree(tmp_path_factory):
    """Twelve small images of three classes; one is a PNG, one is broken."""
    root = tmp_path_factory.mktemp('tree') / 'train'
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 256, (30 + label, 24 + number, 3), dtype=np.uint8)
            ending = 'png' if (label, number) == (1, 2) else 'JPEG'
            Image.fromarray(pixels).save(root / name / f'{name}_{number}.{ending}')
    (root / 'apple/apple_2.JPEG').write_bytes(b'broken')
    (root / 'b/notes.txt').write_text('not an image')
    return root


@pytest.fixture(scope='session')
def stored(image_tree, tmp_path_factory):
    """Write the images into a kind of store, once; returns its class and arguments."""
    written = {}

    def write(kind):
        dataset_class, writer = KINDS[kind]
        if kind not in written:
            written[kind] = writer(image_tree, tmp_path_factory.mktemp(kind) / 'shards')
        return dataset_class, dict(written[kind])

    return write
