# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform

from ibot_mm.functional.augmentation import (
    FLOAT_OPERATIONS,
    GLOBAL_FIRST,
    GLOBAL_REST,
    LOCAL,
    AugmentationPolicy,
    augment_batch,
    augment_images,
    no_color,
    sample_parameters,
)
from ibot_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PhotometricAugmentation(BaseTransform):
    """Draw color jitter, gray, blur and solarization for every crop.

    By default only the parameters are drawn, and the data preprocessor applies them to the whole
    batch on its device: best where that is an accelerator. With ``apply=True`` they are applied
    here, in the workers, by the functions that the data preprocessor uses on a CPU: the same
    values, for trainings on CPUs or with cores to spare.

    Without arguments the published policies are used; each dict changes some numbers of one. See
    :class:`ibot_mm.functional.augmentation.AugmentationPolicy` for the keys. Three channels are
    colors, BGR; with any other number brightness, contrast and blur are of each channel, and the
    other operations must be off: ``saturation=0, hue=0, gray_prob=0, solarize_prob=0``.

    Required keys: ``img`` (one HWC image, uint8 or float32 of 0 to 255, or a list),
    ``num_global_crops`` where local crops follow global ones. Added keys: ``augmentation``, float32
    (number of crops, P), unless ``apply``. Modified keys: ``img`` if ``apply``.

    Args:
        global_first: Changes for the first global crop. Defaults to None.
        global_rest: Changes for the other global crops. Defaults to None.
        local: Changes for local crops. Defaults to None.
        views: Instead of the three above, one dict per crop, each a change to
            ``AugmentationPolicy()``. Defaults to None.
        apply: Apply here. Defaults to False.

    Raises:
        ValueError: A value out of its range, or both ``views`` and one of the three.
        TypeError: An unknown key.
    """

    def __init__(
        self,
        global_first: dict | None = None,
        global_rest: dict | None = None,
        local: dict | None = None,
        views: Sequence[dict] | None = None,
        apply: bool = False,
    ) -> None:
        named = (global_first, global_rest, local)
        if views is not None and any(changes is not None for changes in named):
            raise ValueError(
                'PhotometricAugmentation takes either views or global_first, global_rest and local'
            )
        if views is not None:
            policies = [AugmentationPolicy(**view) for view in views]
        else:
            bases = (GLOBAL_FIRST, GLOBAL_REST, LOCAL)
            policies = [replace(base, **(new or {})) for base, new in zip(bases, named)]
        self.policies, self.per_crop, self.apply = policies, views is not None, apply
        self._rows = np.stack([policy.as_row() for policy in policies])

    def transform(self, results: dict) -> dict:
        """Draw, and apply where asked.

        Args:
            results: With ``img``.

        Returns:
            The same dict.

        Raises:
            ValueError: The number of crops is not that of ``views``, or other channels than three
                are to change color.
        """
        single = not isinstance(results['img'], list)
        crops = [results['img']] if single else results['img']
        num_channels = crops[0].shape[2]
        if num_channels != 3 and any(policy.color_operations for policy in self.policies):
            raise ValueError(f'PhotometricAugmentation: {no_color(num_channels)}')
        num_global_crops = results.get('num_global_crops', len(crops))
        parameters = sample_parameters(self._rows_of(num_global_crops, len(crops)))
        if self.apply:
            crops = _augment(crops, parameters)
            results['img'] = crops[0] if single else crops
        else:
            results['augmentation'] = parameters
        return results

    def _rows_of(self, num_global_crops: int, num_crops: int) -> np.ndarray:
        if not self.per_crop:
            repeats = (1, num_global_crops - 1, num_crops - num_global_crops)
            return np.repeat(self._rows, repeats, axis=0)
        if num_crops != len(self._rows):
            raise ValueError(
                f'PhotometricAugmentation has {len(self._rows)} views, but there are {num_crops} '
                'crops: give one dict for each crop, global ones first'
            )
        return self._rows

    def __repr__(self) -> str:
        return f'{type(self).__name__}(policies={self.policies}, apply={self.apply})'


def _augment(crops: list[np.ndarray], parameters: np.ndarray) -> list[np.ndarray]:
    """Apply to HWC crops; three channels are BGR."""
    order = -1 if crops[0].shape[2] == 3 else 1
    images = [np.empty((crop.shape[2], *crop.shape[:2]), dtype=crop.dtype) for crop in crops]
    for crop, image in zip(crops, images):
        cv2.split(crop, [*image[::order]])
    if images[0].dtype == np.uint8:
        augment_images(images, parameters)
    else:
        for image, row in zip(images, torch.from_numpy(parameters)):
            augment_batch(torch.from_numpy(image)[None], row[None], FLOAT_OPERATIONS)
    return [cv2.merge([*i[::order]]).reshape(crop.shape) for i, crop in zip(images, crops)]
