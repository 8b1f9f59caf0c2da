# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A look at the size of the images before training."""

from collections.abc import Iterable
from io import BytesIO
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image, UnidentifiedImageError

from ibot_mm.registry import HOOKS

LOOKED_AT = 64  # images, spread over the data set; reading a header takes a tenth of a millisecond
NEIGHBORS = 16  # of a store at each of four places: one far away may cost a copy of its shard


@HOOKS.register_module()
class ImageSizeHook(Hook):
    """Says once, before training, where images are smaller than the crops and will be enlarged.

    Enlarged images cost the time of large ones and show no more. Of files only headers are read, of
    a store a few images. Data sets that do not tell files, and files that Pillow does not know, are
    passed over.
    """

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Look at some images."""
        dataset: Any = runner.train_dataloader.dataset
        while hasattr(dataset, 'dataset'):  # a wrapper
            dataset = dataset.dataset
        transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        crop = next((t.global_crop_size for t in transforms if hasattr(t, 'global_crop_size')), 0)
        if not crop or not hasattr(dataset, 'get_data_info'):
            return
        is_store = hasattr(dataset, 'shards')
        numbers = _sample(len(dataset), NEIGHBORS if is_store else 1)
        sizes = [_size(dataset.get_data_info(number)) for number in numbers]
        known = [size for size in sizes if size]
        small = [size for size in known if min(size) < crop]
        if small:
            width, height = min(small)
            runner.logger.warning(
                f'{len(small)} of {len(known)} images looked at are smaller than the global crops '
                f'of {crop} x {crop} pixels, one of them {width} x {height}: they are enlarged. To '
                'save the time, set global_crop_size of the crops, img_size of the backbone, and '
                'sizes of local crops and patches to match; see docs/small_data.md.'
            )


def _sample(number: int, neighbors: int) -> Iterable[int]:
    """Choose images, so many neighbors at each of some places with equal distances."""
    step = max(number * neighbors // LOOKED_AT, neighbors)
    starts = range(0, number, step)[: LOOKED_AT // neighbors]
    return (i for start in starts for i in range(start, min(start + neighbors, number)))


def _size(info: dict) -> tuple[int, int] | None:
    """Read (width, height) of an image's header, or None if that cannot be."""
    try:
        stored = info.get('img_file')
        file = info['img_path'] if stored is None else BytesIO(stored.read_bytes())
        with Image.open(file) as image:
            return image.size
    except (KeyError, OSError, RuntimeError, UnidentifiedImageError):
        return None
