# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from mmcv.transforms import BaseTransform

from ibot_mm.functional.ranges import check_ranges
from ibot_mm.registry import TRANSFORMS

from .multi_crop import resize


@TRANSFORMS.register_module()
class ResizeShortEdge(BaseTransform):
    """Resizes images of any number of channels, uint8 or float32, by the kernel of the crops.

    mmpretrain's ``ResizeEdge`` asks Pillow for antialiasing, which has no more than four channels
    of 8 bits.

    Required and modified keys: ``img`` (HWC), ``img_shape``.

    Args:
        scale (int): Pixels of the shorter side.

    Raises:
        ValueError: ``scale`` is not a whole number of at least 1.
    """

    def __init__(self, scale: int) -> None:
        check_ranges('ResizeShortEdge', {'int [1, inf)': dict(scale=scale)})
        self.scale = scale

    def transform(self, results: dict) -> dict:
        """Resize one image.

        Args:
            results: With ``img``.

        Returns:
            The same dict.
        """
        height, width = results['img'].shape[:2]
        share = self.scale / min(height, width)
        size = max(round(height * share), self.scale), max(round(width * share), self.scale)
        results['img'] = resize(results['img'], *size)
        results['img_shape'] = size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(scale={self.scale})'
