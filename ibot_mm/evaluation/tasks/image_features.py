# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Features of a list of images of any sizes, in the cache that protocols have, too."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, get_rank, get_world_size
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..cache import FeatureCache, fingerprint_images, fingerprint_weights
from ..extraction import track
from ..protocols.measurement import Options
from ..splits import DataError
from .network import TaskNetwork, preparation

SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif', '.tiff', '.webp')
BUFFER = 4  # batches that wait for images of their size


def open_image(path: str | Path) -> Image.Image:
    """Read an image, RGB; EXIF orientation is ignored, as published.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return image.convert('RGB')
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f'{path} cannot be read ({error}): download or copy it again') from error


def image_features(
    network: TaskNetwork,
    paths: Sequence[Path],
    load: Callable[[Path], Tensor],
    compute: Callable[[Tensor], Tensor],
    options: Options,
    name: str,
    view: Mapping[str, Any],
) -> Tensor:
    """Compute the features of images in all processes together, or find them in the cache.

    Images of one size are given to the network together.

    Args:
        network: Frozen.
        paths: Of the images.
        load: Reads an image, uint8, BGR, (3, H, W).
        compute: Prepared images (B, 3, H, W) of one size to features (B, C).
        options: ``work_dir``, ``images_per_batch``, ``num_workers`` and ``device``.
        name: Of the cache and the progress, such as 'roxford5k'.
        view: What ``load`` and ``compute`` do, for the cache's key.

    Returns:
        Shape (N, C), float32, mapped from the disk.

    Raises:
        DataError: If an image cannot be read.
        FloatingPointError: If features are not finite; the message names the image.
    """
    prepare = preparation(network)

    @torch.no_grad()
    def run(images: Tensor) -> Tensor:
        return compute(prepare(images.to(options.device)))

    width = run(load(paths[0])[None]).shape[1]
    probe = torch.tensor([[0, 100, 200], [255, 50, 150]], dtype=torch.uint8)  # two BGR pixels
    prepared = prepare(probe.T[None, :, None].to(options.device))
    key = dict(
        network=type(network.backbone).__name__,
        weights=fingerprint_weights(network.backbone),
        images=fingerprint_images([str(path) for path in paths]),
        prepare=[round(value, 3) for value in prepared.flatten().tolist()],
        **view,
    )
    cache = FeatureCache(Path(options.work_dir) / 'features', name, key, (len(paths), width))
    pending = cache.pending()
    barrier()  # no process may write before all have looked
    pending = np.array_split(pending, get_world_size())[get_rank()]
    batches = _batches([paths[row] for row in pending], load, options)
    for numbers, images in track(batches, len(pending), f'features of {name}'):
        try:
            cache.write([int(pending[number]) for number in numbers], run(images))
        except FloatingPointError as error:
            raise FloatingPointError(
                f'the features of {paths[error.args[1]]} are not finite: the network has diverged'
            ) from error
    barrier()
    return cache.features()


def find_folder_images(folder: str | Path) -> list[Path]:
    """List the images below a folder, by name.

    Raises:
        DataError: If there is no such folder, or no image in it.
    """
    if not Path(folder).is_dir():
        raise DataError(f'there is no folder {folder}')
    found = sorted(path for path in Path(folder).rglob('*') if path.suffix.lower() in SUFFIXES)
    if not found:
        raise DataError(f'{folder} has no images ({", ".join(SUFFIXES)})')
    return found


class _Images(Dataset[tuple[int, Tensor]]):
    def __init__(self, paths: Sequence[Path], load: Callable[[Path], Tensor]) -> None:
        self.paths, self.load = paths, load

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor]:
        return index, self.load(self.paths[index])


def _batches(
    paths: Sequence[Path], load: Callable[[Path], Tensor], options: Options
) -> Iterator[tuple[Sequence[int], Tensor]]:
    """Yield numbers and images of one size; what waits for others of its size is bounded."""
    loader = DataLoader(
        _Images(paths, load),
        batch_size=None,
        num_workers=min(options.num_workers, len(paths)),
    )
    waiting: dict[Any, list[tuple[int, Tensor]]] = {}
    for number, image in loader:
        group = waiting.setdefault(image.shape, [])
        group.append((number, image))
        total = sum(map(len, waiting.values()))
        if len(group) == options.images_per_batch:
            yield _stack(waiting.pop(image.shape))
        elif total >= BUFFER * options.images_per_batch:
            yield _stack(waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
    for group in waiting.values():
        yield _stack(group)


def _stack(group: Sequence[tuple[int, Tensor]]) -> tuple[list[int], Tensor]:
    return [number for number, _ in group], torch.stack([image for _, image in group])
