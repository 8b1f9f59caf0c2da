# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from mmcv.transforms import BaseTransform

from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class ReverseChannels(BaseTransform):
    """Turns RGB into BGR, which mm's color transforms expect, or back.

    For data sets that give RGB images, such as mmpretrain's CIFAR.

    Required and modified key: ``img`` (HWC).
    """

    def transform(self, results: dict) -> dict:
        """Reverse the channels of one image."""
        results['img'] = results['img'][..., ::-1].copy()
        return results
