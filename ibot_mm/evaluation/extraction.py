# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""One pass over the images of a data set, their features into a cache."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.dataset import BaseDataset, default_collate
from mmengine.dist import barrier, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from .cache import FeatureCache
from .views import prepare


@dataclass(frozen=True)
class Loading:
    """How images are loaded.

    Args:
        batch_size: Images at once in each process. Defaults to 128.
        num_workers: Of each process. Defaults to 4.
        device: Where the network runs. Defaults to 'cpu'.
        prepare: Makes uint8 BGR images (B, 3, H, W) the network's input. Defaults to
            :func:`~ibot_mm.evaluation.views.prepare`, RGB normalized by ImageNet's statistics.
    """

    batch_size: int = 128
    num_workers: int = 4
    device: str = 'cpu'
    prepare: Callable[[Tensor], Tensor] = prepare


LOADING = Loading()


def extract_features(
    extractor: nn.Module,
    dataset: BaseDataset,
    cache: FeatureCache,
    loading: Loading = LOADING,
    title: str = 'features',
) -> None:
    """Fill what a cache lacks, in all processes together.

    Args:
        extractor: Images (B, 3, H, W) to features (B, C), see
            :class:`~ibot_mm.evaluation.FeatureExtractor`.
        dataset: With a pipeline that ends in ``PackInputs``.
        cache: Of one row for each image of the data set.
        loading: How images are loaded.
        title: Of the progress. Defaults to 'features'.

    Raises:
        FloatingPointError: If features are not finite; the message names the image.
    """
    pending = cache.pending()
    barrier()  # no process may write before all have looked
    if is_main_process() and 0 < len(pending) < len(dataset):
        print_log(
            f'{title}: {len(dataset) - len(pending)} of {len(dataset)} images are there from an '
            'interrupted extraction',
            logger='current',
        )
    own = np.array_split(pending, get_world_size())[get_rank()]
    extractor.to(loading.device).eval()
    start = time.perf_counter()
    for rows, batch in track(batches(dataset, own, loading), len(own), title):
        images = loading.prepare(batch['inputs'].to(loading.device, non_blocking=True))
        with torch.no_grad():
            features = extractor(images)
        try:
            cache.write(rows, features)
        except FloatingPointError as error:
            path = dataset.get_data_info(error.args[1])['img_path']
            raise FloatingPointError(
                f'the features of {path} are not finite as {cache.dtype}: the network has '
                'diverged, or the type is too small; look at the weights, or use float32'
            ) from error
    barrier()
    if is_main_process() and len(pending):
        speed = len(pending) / (time.perf_counter() - start)
        print_log(f'{title}: {len(pending)} images at {speed:.0f} images/s', logger='current')


def batches(
    dataset: BaseDataset, rows: Sequence[int], loading: Loading
) -> Iterator[tuple[Sequence[int], dict[str, Any]]]:
    """Yield rows of a data set and their samples, batch by batch."""
    loader = DataLoader(
        Subset(dataset, np.asarray(rows)),  # type: ignore[arg-type]  # 8 bytes a number
        batch_size=loading.batch_size,
        num_workers=min(loading.num_workers, len(rows)),
        collate_fn=default_collate,
        pin_memory=loading.device.startswith('cuda'),
    )
    for number, batch in enumerate(loader):
        first = number * loading.batch_size
        yield rows[first : first + loading.batch_size], batch


def track(
    parts: Iterable[tuple[Sequence[int], Any]], total: int, title: str
) -> Iterator[tuple[Sequence[int], Any]]:
    """Show progress, images per second and remaining time, of all processes, in the first."""
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn('{task.fields[speed]:.0f} images/s'),
        TimeRemainingColumn(),
    )
    world_size = get_world_size()
    with Progress(*columns, disable=not is_main_process() or total == 0) as progress:
        task = progress.add_task(title, total=total * world_size, speed=0.0)
        start, done = time.perf_counter(), 0
        for rows, part in parts:
            yield rows, part
            done += len(rows) * world_size
            progress.update(task, completed=done, speed=done / (time.perf_counter() - start))
