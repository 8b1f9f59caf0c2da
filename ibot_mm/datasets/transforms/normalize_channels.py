# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Sequence

import numpy as np
from mmcv.transforms import BaseTransform

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class NormalizeChannels(BaseTransform):
    """Normalizes images of any number of channels.

    For detection and segmentation: the data preprocessors of mmdet and mmseg take the mean of one
    or three channels; set theirs to None.

    Required and modified key: ``img`` (HWC), float32 afterwards.

    Args:
        mean (Sequence[float]): Of each channel, 0 to 255.
        std (Sequence[float]): Deviation of each channel.

    Raises:
        ValueError: The two differ in length, or a deviation is not positive.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        check_ranges(
            'NormalizeChannels', {'(-inf, inf)': dict(mean=mean), '(0, inf)': dict(std=std)}
        )
        if len(mean) != len(std):
            raise ValueError(
                f'NormalizeChannels: mean has {len(mean)} channels, std {len(std)}: give one '
                'number of each for each channel'
            )
        self.mean, self.std = (np.array(values, dtype=np.float32) for values in (mean, std))

    def transform(self, results: dict) -> dict:
        """Normalize one image.

        Args:
            results: With ``img``.

        Returns:
            The same dict.

        Raises:
            ValueError: The image has other channels.
        """
        image = results['img']
        image = image[..., None] if image.ndim == 2 else image  # OpenCV drops the axis
        if image.shape[2] != len(self.mean):
            raise ValueError(
                f'NormalizeChannels: an image has {image.shape[2]} channels, mean and std '
                f'{len(self.mean)}: give one number of each for each channel that LoadImage reads'
            )
        results['img'] = (image.astype(np.float32) - self.mean) / self.std
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(mean={self.mean.tolist()}, std={self.std.tolist()})'
