# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import numpy as np
from mmcv.transforms import BaseTransform

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class GaussianNoise(BaseTransform):
    """Adds Gaussian noise to images or crops, to each channel with a deviation of its own.

    Required and modified key: ``img`` (one HWC image, or a list; uint8 or float32, 0 to 255).

    Args:
        std (tuple[float, float]): A channel's deviation is uniform between these two, in units of
            0 to 255. Defaults to (0.0, 8.0).
        prob (float): Of a crop to get noise. Defaults to 0.5.

    Raises:
        ValueError: ``std`` is not (low, high) with 0 <= low <= high, ``prob`` leaves 0 to 1.
    """

    def __init__(self, std: tuple[float, float] = (0.0, 8.0), prob: float = 0.5) -> None:
        check_ranges('GaussianNoise', {'[0, inf)': dict(std=std), '[0, 1]': dict(prob=prob)})
        if not (len(std) == 2 and std[0] <= std[1]):
            raise ValueError(f'GaussianNoise: std must be (low, high), low <= high, got {std}')
        self.std, self.prob = std, prob

    def transform(self, results: dict) -> dict:
        """Add noise, from numpy's global generator.

        Args:
            results: With ``img``.

        Returns:
            The same dict.
        """
        images = results['img']
        several = isinstance(images, list)
        noisy = [self._add(image) for image in (images if several else [images])]
        results['img'] = noisy if several else noisy[0]
        return results

    def _add(self, image: np.ndarray) -> np.ndarray:
        if np.random.random() >= self.prob:
            return image
        std = np.random.uniform(*self.std, size=image.shape[2:])
        noise = np.random.standard_normal(image.shape) * std
        values = (image + noise).clip(0, 255)
        return (values.round() if image.dtype == np.uint8 else values).astype(image.dtype)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(std={self.std}, prob={self.prob})'
