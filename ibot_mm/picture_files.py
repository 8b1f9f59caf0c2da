# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Pictures for figures, from files and folders, and views cut out of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from .visualization.picture import Picture

if TYPE_CHECKING:
    from torch import Tensor

Size = int | tuple[int, int] | None
VIEW_SCALE, VIEW_RATIO = (0.4, 1.0), (3 / 4, 4 / 3)


class PictureFiles(Sequence[Picture]):
    """Pictures that are read when they are asked for.

    Args:
        paths: Name -> file.
        size: Pixels of the shorter side, or height and width; bicubic with antialiasing. None
            leaves images as they are. Defaults to None.
        center: Whether to take the published test view of ``size`` pixels: the center of an image
            resized to 8/7 of it. Defaults to False.

    Raises:
        ValueError: If a size is less than 1, or the test view is not a square.
    """

    def __init__(self, paths: dict[str, str], size: Size = None, center: bool = False) -> None:
        sides = size if isinstance(size, tuple) else () if size is None else (size,)
        if any(side < 1 for side in sides) or (center and not isinstance(size, int)):
            raise ValueError(f'image_size must be one number of pixels from 1 on, got {size}')
        self.paths = paths
        self.size = size
        self.center = center

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> Picture: ...

    @overload
    def __getitem__(self, index: slice) -> 'PictureFiles': ...

    def __getitem__(self, index: int | slice) -> 'Picture | PictureFiles':
        names = list(self.paths)
        if isinstance(index, slice):
            return PictureFiles({n: self.paths[n] for n in names[index]}, self.size, self.center)
        picture = read_picture(self.paths[names[index]], names[index])
        if not self.center or not isinstance(self.size, int):
            return resize_picture(picture, self.size)
        larger = resize_picture(picture, self.size * 8 // 7)
        top, left = ((side - self.size) // 2 for side in larger.size)
        pixels = larger.pixels[top : top + self.size, left : left + self.size]
        return Picture(larger.name, pixels, larger.scale, (top, left))


def find_pictures(
    sources: Sequence[str | Path],
    size: Size = None,
    number: int | None = None,
    center: bool = False,
) -> PictureFiles:
    """Find images by files and folders.

    Args:
        sources: Files and folders, which are searched as deep as they go.
        size: See :class:`PictureFiles`. Defaults to None.
        number: At most so many, evenly spaced over all. Defaults to None, all.
        center: See :class:`PictureFiles`. Defaults to False.

    Raises:
        FileNotFoundError: If a source is not there.
        ValueError: If there are no images.
    """
    from .datasets.find_images import find_images

    paths: dict[str, str] = {}
    for source in map(Path, sources):
        if source.is_dir():
            found = find_images(str(source))
            if not found.images:
                raise ValueError(f'no images in {source}: {found}')
            paths |= {name: str(source / name) for name in found.images}
        elif source.is_file():
            paths[source.name if source.name not in paths else str(source)] = str(source)
        else:
            raise FileNotFoundError(f'{source} is not there: give image files or folders of them')
    if not paths:
        raise ValueError('no images: give image files or folders of them')
    if number is not None:
        if number < 1:
            raise ValueError(f'the number of images must be at least 1, got {number}')
        names = list(paths)
        chosen = np.linspace(0, len(names) - 1, min(number, len(names))).round().astype(int)
        paths = {names[index]: paths[names[index]] for index in chosen}
    return PictureFiles(paths, size, center)


def read_picture(path: str | Path, name: str | None = None) -> Picture:
    """Read an image, without regard to EXIF orientation, as trainings do.

    Raises:
        ValueError: If it cannot be read, or would lose something as 8-bit RGB.
    """
    from .datasets import LoadImage

    try:
        loaded: Any = LoadImage()(dict(img_path=str(path)))
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return Picture(name or Path(path).name, np.ascontiguousarray(loaded['img'][..., ::-1]))


def resize_picture(picture: Picture, size: Size) -> Picture:
    """Resize a picture, bicubic with antialiasing.

    Args:
        picture: As read.
        size: Pixels of the shorter side, height and width, or None to leave it.
    """
    from PIL import Image

    if size is None:
        return picture
    height, width = picture.size
    if isinstance(size, int):
        share = size / min(height, width)
        size = (size, round(width * share)) if height <= width else (round(height * share), size)
    image = Image.fromarray(picture.pixels)
    pixels = np.array(image.resize((size[1], size[0]), Image.Resampling.BICUBIC))
    return Picture(picture.name, pixels, (size[0] / height, size[1] / width))


def sample_views(
    picture: Picture, size: int = 224, seed: int = 0, colors: bool = True
) -> tuple[Picture, Picture, 'Tensor']:
    """Cut two random views out of a picture, as published for correspondence.

    Args:
        picture: Uncropped.
        size: Side of a view in pixels. Defaults to 224.
        seed: Of numpy's generator, whose state is left as it was. Defaults to 0.
        colors: Whether to jitter colors (0.4, 0.4, 0.2, 0.1, with probability 0.8) and turn gray
            (0.2). Defaults to True.

    Returns:
        Two views, crops of 0.4 to 1 of the area, half of them mirrored; and their corners (2, 4),
        float64, see :mod:`ibot_mm.functional.correspondence`.
    """
    import torch

    from .datasets.transforms.multi_crop import resized_crop, sample_crop_box
    from .functional.augmentation import AugmentationPolicy, augment_images, sample_parameters

    state = np.random.get_state()
    np.random.seed(seed)
    height, width = picture.size
    views, corners = [], []
    for _ in range(2):
        top, left, rows, columns = box = sample_crop_box(height, width, VIEW_SCALE, VIEW_RATIO)
        flip = np.random.random() < 0.5
        sides = [left / width, (left + columns) / width]
        first, last = sides[::-1] if flip else sides
        corners.append([top / height, first, (top + rows) / height, last])
        views.append(resized_crop(picture.pixels, box, size, flip))
    if colors:
        policy = AugmentationPolicy(blur_prob=0.0).as_row()
        channels_first = [np.ascontiguousarray(view.transpose(2, 0, 1)) for view in views]
        augment_images(channels_first, sample_parameters(np.stack([policy, policy])))
        views = [np.ascontiguousarray(view.transpose(1, 2, 0)) for view in channels_first]
    np.random.set_state(state)
    first_view, second_view = (
        Picture(f'{picture.name}, view {number}', view) for number, view in enumerate(views, 1)
    )
    return first_view, second_view, torch.tensor(corners, dtype=torch.float64)
