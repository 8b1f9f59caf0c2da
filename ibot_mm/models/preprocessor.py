# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Device side of the data path."""

from typing import Any

import torch
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor

from ibot_mm.functional.augmentation import apply_augmentation
from ibot_mm.functional.color_uint8 import normalize
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.token_selection import masked_patches
from ibot_mm.registry import MODELS


@MODELS.register_module()
class MultiCropPreprocessor(ClsDataPreprocessor):
    """Makes dense crops into augmented, normalized float ones, on the device.

    A batch of :class:`ibot_mm.PackMultiCrop` is recognized by its ``global_crops``; any other
    (validation, test) is left to the base class. Color order, mean and deviation are given as in
    every mm config: ``mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True``.
    Images of other channels have a mean and a deviation for each, and ``to_rgb=False``.

    Args:
        **kwargs: As :class:`mmpretrain.models.ClsDataPreprocessor`.

    Raises:
        ValueError: If a deviation is not positive, or there are not as many as means.
    """

    def __init__(self, **kwargs: Any) -> None:
        check_ranges(type(self).__name__, {'(0, inf)': dict(std=kwargs.get('std'))})
        super().__init__(**kwargs)
        if self._enable_normalize and len(self.mean) != len(self.std):
            raise ValueError(
                f'{type(self).__name__}: mean has {len(self.mean)} channels, std {len(self.std)}'
            )
        self._non_blocking = True  # crops in pinned memory move while the GPU works

    def forward(self, data: dict, training: bool = False) -> dict:
        """Prepare one batch.

        Args:
            data: From the data loader. ``inputs`` holds ``global_crops`` (B, G, C, H, W), uint8 or
                float32 of 0 to 255, ``local_crops`` (B, L, C, h, w) where L > 0, bool ``masks``
                (B, G, H/p, W/p) and where drawn float ``augmentation`` (B, G + L, P).
            training: Passed to the base class. Defaults to False.

        Returns:
            The same dict; crops are float and normalized, ``augmentation`` is used up, and beside
            ``masks`` there are ``masked_patches``, see :func:`masked_patches`.

        Raises:
            ValueError: Images have other channels than ``mean``, or are not BGR with ``to_rgb``.
        """
        if not (isinstance(data['inputs'], dict) and 'global_crops' in data['inputs']):
            images = data['inputs']
            for image in images if isinstance(images, list) else [images]:
                self._check_channels(image.shape[-3])
            return super().forward(data, training)
        inputs = dict(data['inputs'])
        self._check_channels(inputs['global_crops'].shape[-3])
        # The augmentation's parameters stay on the CPU: reading them from a device would wait.
        parameters = inputs.pop('augmentation', None)
        if 'masks' in inputs:  # likewise found while they are on the CPU
            inputs['masked_patches'] = masked_patches(inputs['masks'])
        data = self.cast_data(dict(data, inputs=inputs))
        inputs = data['inputs']
        num_global_crops = inputs['global_crops'].shape[1]
        sections = dict(
            global_crops=slice(None, num_global_crops), local_crops=slice(num_global_crops, None)
        )
        for name, section in sections.items():
            if name in inputs:
                drawn = None if parameters is None else parameters[:, section]
                inputs[name] = self._prepare(inputs[name], drawn)
        return data

    def _check_channels(self, number: int) -> None:
        if self._enable_normalize and len(self.mean) not in (1, number):
            raise ValueError(
                f'{type(self).__name__}: images have {number} channels, and mean and std are of '
                f'{len(self.mean)}: give one number of each for each channel that LoadImage reads; '
                'tools/dataset_converters/measure_channels.py measures them'
            )
        if self.to_rgb and number != 3:
            raise ValueError(
                f'{type(self).__name__}: to_rgb=True is for BGR, and images have {number} channels:'
                ' set to_rgb=False'
            )

    def _prepare(self, crops: Tensor, parameters: Tensor | None) -> Tensor:
        images = crops.flatten(0, 1)  # (B * V, C, H, W)
        images = images.flip(1) if self.to_rgb else images.clone()
        if parameters is not None:
            apply_augmentation(images, parameters.flatten(0, 1))
        return self._normalize(images).unflatten(0, crops.shape[:2])

    def _normalize(self, images: Tensor) -> Tensor:
        if self._enable_normalize and images.device.type == 'cpu' and images.dtype == torch.uint8:
            channels = images.shape[1]
            statistics = (
                value.flatten().expand(channels).numpy() for value in (self.mean, self.std)
            )
            return torch.from_numpy(normalize(images.numpy(), *statistics))
        images = images if images.is_floating_point() else images.float()
        return (images - self.mean) / self.std if self._enable_normalize else images
