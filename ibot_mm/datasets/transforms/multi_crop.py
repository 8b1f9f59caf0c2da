# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform

from ibot_mm.registry import TRANSFORMS

TRIES = 10


def sample_crop_box(
    height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Draw a box as torchvision's ``RandomResizedCrop`` does, from numpy's global generator.

    Args:
        height: Of the image.
        width: Of the image.
        scale: Lowest and highest share of the image's area.
        ratio: Lowest and highest width / height, drawn log-uniformly.

    Returns:
        top, left, height, width. After ten boxes that do not fit, the central one of an allowed
        ratio.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for size, shape, down, right in np.random.random((TRIES, 4)).tolist():
        area = height * width * (scale[0] + (scale[1] - scale[0]) * size)
        aspect = math.exp(low + (high - low) * shape)
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(down * (height - box_height + 1))
            left = int(right * (width - box_width + 1))
            return top, left, box_height, box_width
    box_width = min(width, round(height * ratio[1]))
    box_height = min(height, round(width / ratio[0]))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resized_crop(
    image: np.ndarray, box: tuple[int, int, int, int], size: int, flip: bool
) -> np.ndarray:
    """Crop, resize with antialiased bicubic interpolation, and flip.

    Args:
        image: uint8 or float32 (H, W, C), 0 to 255.
        box: top, left, height, width.
        size: Side of the result.
        flip: Mirror left and right.

    Returns:
        (size, size, C) of the same type, contiguous.
    """
    top, left, height, width = box
    crop = resize(image[top : top + height, left : left + width], size, size)
    if not flip:
        return crop
    # OpenCV is faster, and drops the axis of a single channel.
    return np.ascontiguousarray(crop[:, ::-1]) if crop.shape[2] == 1 else cv2.flip(crop, 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize with antialiased bicubic interpolation.

    8 bits stay such all the way: torch has a vectorized kernel for it, several times as fast as
    Pillow and within one level of it, but for one value in a few 100,000 that is two levels off.

    Args:
        image: uint8 or float32 (H, W, C), 0 to 255.
        height: Of the result.
        width: Of the result.

    Returns:
        (height, width, C) of the same type, contiguous.
    """
    # The batch axis comes before the permutation: only so does torch see channels last. It would
    # copy the crop anyway, more slowly.
    pixels = torch.from_numpy(np.ascontiguousarray(image[None])).permute(0, 3, 1, 2)
    rows, columns = image.shape[:2]
    if rows > height and rows - height > 2 * (columns - width):
        pixels = _resize(pixels, height, columns)  # Pillow 13 takes this axis first here
    pixels = _resize(pixels, height, width)
    return np.ascontiguousarray(pixels[0].permute(1, 2, 0).numpy())


def _resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    resized = F.interpolate(pixels, (height, width), mode='bicubic', antialias=True)
    # Bicubic interpolation overshoots; in 8 bits it is clipped.
    return resized.clamp_(0, 255) if resized.is_floating_point() else resized


@TRANSFORMS.register_module()
class MultiCrop(BaseTransform):
    """Turn one image into global and local crops, randomly placed, resized and mirrored.

    Works with any algorithm that takes several views: stock ``PackInputs`` packs the list.

    Required keys: ``img`` (HWC, uint8 or float32 of 0 to 255). Modified keys: ``img`` (list of HWC
    crops, global ones first), ``img_shape`` (of a global crop). Added keys: ``num_global_crops``.

    Args:
        num_global_crops: Number of global crops. Defaults to 2.
        global_crop_size: Their side in pixels. Defaults to 224.
        global_crop_scale: Lowest and highest share of the image's area. Defaults to (0.25, 1.0).
        num_local_crops: Number of local crops, 0 for none. Defaults to 10.
        local_crop_size: Their side in pixels. Defaults to 96.
        local_crop_scale: As ``global_crop_scale``. Defaults to (0.05, 0.25).
        ratio: Lowest and highest width / height. Defaults to (3/4, 4/3).
        flip_prob: Of mirroring a crop. Defaults to 0.5.

    Raises:
        ValueError: A number, size, scale, ratio or probability out of its range.
    """

    def __init__(
        self,
        num_global_crops: int = 2,
        global_crop_size: int = 224,
        global_crop_scale: tuple[float, float] = (0.25, 1.0),
        num_local_crops: int = 10,
        local_crop_size: int = 96,
        local_crop_scale: tuple[float, float] = (0.05, 0.25),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip_prob: float = 0.5,
    ) -> None:
        _check(num_global_crops >= 1, 'num_global_crops', num_global_crops, 'at least 1')
        _check(num_local_crops >= 0, 'num_local_crops', num_local_crops, '0 or more')
        _check(global_crop_size > 0, 'global_crop_size', global_crop_size, 'positive')
        _check(local_crop_size > 0, 'local_crop_size', local_crop_size, 'positive')
        for name, scale in (
            ('global_crop_scale', global_crop_scale),
            ('local_crop_scale', local_crop_scale),
        ):
            inside = len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1
            _check(inside, name, scale, '(low, high) with 0 < low <= high <= 1')
        inside = len(ratio) == 2 and 0 < ratio[0] <= ratio[1]
        _check(inside, 'ratio', ratio, '(low, high) with 0 < low <= high')
        _check(0 <= flip_prob <= 1, 'flip_prob', flip_prob, '0 to 1')
        self.num_global_crops, self.num_local_crops = num_global_crops, num_local_crops
        self.global_crop_size, self.local_crop_size = global_crop_size, local_crop_size
        self.ratio, self.flip_prob = ratio, flip_prob
        self._plan = [(global_crop_size, global_crop_scale)] * num_global_crops
        self._plan += [(local_crop_size, local_crop_scale)] * num_local_crops

    @property
    def min_image_size(self) -> int:
        """Shorter side, in pixels, of an image of which no crop has to be enlarged.

        A crop of the share s and the ratio r, at most 1, of an image of h x w pixels has a shorter
        side of √(h w s r), which is at least min(h, w) √(s r).
        """
        ratio = min(self.ratio[0], 1 / self.ratio[1])
        return max(math.ceil(size / math.sqrt(scale[0] * ratio)) for size, scale in self._plan)

    def transform(self, results: dict) -> dict:
        """Crop.

        Args:
            results: With ``img``.

        Returns:
            The same dict with the crops.

        Raises:
            ValueError: If the image was reduced while it was decoded, and is too small now.
        """
        image = results['img']
        height, width = image.shape[:2]
        if results.get('reduction', 1) > 1 and min(height, width) < self.min_image_size:
            raise ValueError(
                f'MultiCrop: an image was decoded at 1/{results["reduction"]} and is now {width} x '
                f'{height}, so that crops would be enlarged: set LoadImage(min_decoded_size='
                f'{self.min_image_size})'
            )
        crops = []
        for size, scale in self._plan:
            box = sample_crop_box(height, width, scale, self.ratio)
            flip = np.random.random() < self.flip_prob
            crops.append(resized_crop(image, box, size, flip))
        results['img'] = crops
        results['img_shape'] = crops[0].shape[:2]
        results['num_global_crops'] = self.num_global_crops
        return results

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}(num_global_crops={self.num_global_crops}, '
            f'num_local_crops={self.num_local_crops}, sizes_and_scales={sorted(set(self._plan))}, '
            f'ratio={self.ratio}, flip_prob={self.flip_prob})'
        )


def _check(condition: bool, name: str, value: object, wanted: str) -> None:
    if not condition:
        raise ValueError(f'MultiCrop: {name} must be {wanted}, got {value}')
