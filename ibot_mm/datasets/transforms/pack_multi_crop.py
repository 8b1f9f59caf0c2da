# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmpretrain.structures import DataSample

from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackMultiCrop(BaseTransform):
    """Pack the crops of one image into a few dense tensors.

    mmengine's ``default_collate`` then gives each a leading batch axis.

    Required keys: ``img`` (list of uint8 HWC crops, global ones first; each kind of one size).
    Optional keys: ``num_global_crops`` (all without it), ``masks``, ``augmentation``,
    ``gt_label`` and the meta keys.

    The result has ``inputs``, a dict of ``global_crops`` uint8 (G, 3, H, W), ``local_crops`` uint8
    (L, 3, h, w) unless L is 0, ``masks`` bool (G, H/p, W/p) and ``augmentation`` float32
    (G + L, P) where drawn; and ``data_samples``, a ``DataSample``.

    Args:
        meta_keys: Keys to keep as meta information. Defaults to ('sample_idx', 'img_path').
    """

    def __init__(self, meta_keys: Sequence[str] = ('sample_idx', 'img_path')) -> None:
        self.meta_keys = tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Pack.

        Args:
            results: With ``img``.

        Returns:
            Dict of ``inputs`` and ``data_samples``.

        Raises:
            ValueError: Crops of one kind that differ in size, or are not uint8 (H, W, 3).
        """
        crops = results['img']
        num_global_crops = results.get('num_global_crops', len(crops))
        inputs = dict(global_crops=_stack(crops[:num_global_crops]))
        if len(crops) > num_global_crops:
            inputs['local_crops'] = _stack(crops[num_global_crops:])
        for key in ('masks', 'augmentation'):
            if key in results:
                inputs[key] = torch.from_numpy(results[key])

        kept = {key: results[key] for key in self.meta_keys if key in results}
        sample = DataSample(metainfo=kept)
        if 'gt_label' in results:
            sample.set_gt_label(results['gt_label'])
        return dict(inputs=inputs, data_samples=sample)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(meta_keys={self.meta_keys})'


def _stack(crops: Sequence[np.ndarray]) -> torch.Tensor:
    """(H, W, 3) crops of one size to (number, 3, H, W), channels apart."""
    height, width = crops[0].shape[:2]
    if any(crop.shape != (height, width, 3) or crop.dtype != np.uint8 for crop in crops):
        raise ValueError(
            f'PackMultiCrop needs uint8 crops (H, W, 3), all global ones of one size and all local '
            f'ones of one size, got {[(crop.shape, str(crop.dtype)) for crop in crops]}'
        )
    stacked = np.empty((len(crops), 3, height, width), dtype=np.uint8)
    for crop, planes in zip(crops, stacked):
        cv2.split(crop, [*planes])  # fills the planes, four times as fast as a transposed copy
    return torch.from_numpy(stacked)
