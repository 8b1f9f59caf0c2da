# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import cv2
import numpy as np
import pytest
import skimage.data
from sklearn.datasets import load_sample_images


@pytest.fixture(scope='session')
def photographs():
    """Photographs of several shapes, uint8 HWC RGB."""
    china, flower = (np.array(image) for image in load_sample_images().images)
    astronaut = np.array(skimage.data.astronaut())
    return [china, flower[:300, :211], astronaut, china[100:190, 40:100]]


@pytest.fixture(scope='session')
def image_files(photographs, tmp_path_factory):
    """The photographs as eight JPEG files."""
    folder = tmp_path_factory.mktemp('photographs')
    paths = [str(folder / f'{i}.jpg') for i in range(8)]
    for i, path in enumerate(paths):
        cv2.imwrite(path, np.roll(photographs[i % 3], 40 * i, axis=1)[..., ::-1])
    return paths
