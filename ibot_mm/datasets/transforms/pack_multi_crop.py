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

    Required keys: ``img`` (list of uint8 or float32 HWC crops, global ones first; each kind of one
    size).
    Optional keys: ``num_global_crops`` (all without it), ``masks``, ``augmentation``,
    ``gt_label`` and the meta keys.

    The result has ``inputs``, a dict of ``global_crops`` (G, C, H, W), ``local_crops`` (L, C, h, w)
    unless L is 0, both of the crops' type, ``masks`` bool (G, H/p, W/p) and ``augmentation``
    float32 (G + L, P) where drawn; and ``data_samples``, a ``DataSample``.

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
            ValueError: Crops of one kind that differ in size, channels or type, or are neither
                uint8 nor float32 (H, W, C).
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
    """(H, W, C) crops of one size to (number, C, H, W), channels apart."""
    shape, dtype = crops[0].shape, crops[0].dtype
    alike = all(crop.shape == shape and crop.dtype == dtype for crop in crops)
    if len(shape) != 3 or dtype not in (np.uint8, np.float32) or not alike:
        raise ValueError(
            f'PackMultiCrop needs uint8 or float32 crops (H, W, C), all global ones of one size '
            'and all local ones of one size, got '
            f'{[(crop.shape, str(crop.dtype)) for crop in crops]}'
        )
    stacked = np.empty((len(crops), shape[2], *shape[:2]), dtype=dtype)
    for crop, planes in zip(crops, stacked):
        cv2.split(crop, [*planes])  # fills the planes, four times as fast as a transposed copy
    return torch.from_numpy(stacked)
