# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""How images are brought to a network for evaluation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ibot_mm.functional.image_statistics import normalize


def evaluation_view(
    crop_size: int = 224,
    resize: int | None = None,
    interpolation: str = 'bicubic',
    load: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the published test view as a pipeline of mm.

    Args:
        crop_size: Side of the center crop in pixels. Defaults to 224.
        resize: Pixels of the shorter side before it, with antialiasing. Defaults to None, 8/7 of
            ``crop_size``: 256 for 224.
        interpolation: Of Pillow. Defaults to 'bicubic'; published for robustness is 'bilinear'.
        load: Options of ``LoadImage``, such as ``channels``, for other images than RGB of 8 bits.
            Those that Pillow cannot resize are resized as the crops of a training, bicubic.
            Defaults to None.

    Returns:
        Configs of transforms that end in ``PackInputs``; images come out as uint8, BGR, or as
        ``load`` says.
    """
    load, scale = dict(load or {}), resize or crop_size * 8 // 7
    resizing: dict[str, Any] = dict(
        type='mmpretrain.ResizeEdge',
        scale=scale,
        edge='short',
        backend='pillow',
        interpolation=interpolation,
    )
    if load.get('channels') is not None or load.get('to_float32'):
        resizing = dict(type='ibot_mm.ResizeShortEdge', scale=scale)
    return [
        dict(type='ibot_mm.LoadImage', **load),  # as in training: EXIF orientation is ignored
        resizing,
        dict(type='mmpretrain.CenterCrop', crop_size=crop_size),
        dict(type='mmpretrain.PackInputs'),
    ]


def center_view(crop_size: int = 224) -> list[dict[str, Any]]:
    """Return the view of images that were cut out before: the center alone.

    Args:
        crop_size: Side of the center crop in pixels. Defaults to 224.
    """
    return [step for step in evaluation_view(crop_size) if 'ResizeEdge' not in step['type']]


def square_image(image: Image.Image, size: int) -> Tensor:
    """Make an image square, without regard to its proportions, as published for copy detection.

    Args:
        image: RGB.
        size: Side in pixels; the resize is Pillow's bicubic one.

    Returns:
        uint8, BGR as mm loads images, (3, size, size).
    """
    return to_tensor(image.resize((size, size), Image.Resampling.BICUBIC))


def to_tensor(image: Image.Image) -> Tensor:
    """Make an RGB image a tensor as mm loads images: uint8, BGR, (3, H, W)."""
    return torch.from_numpy(np.array(image)[..., ::-1].copy()).permute(2, 0, 1)


def prepare(images: Tensor) -> Tensor:
    """Make uint8 images (B, 3, H, W) as mm loads them, BGR, a network's input."""
    return normalize(images.flip(1).float())
