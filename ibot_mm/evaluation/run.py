# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Frozen evaluation from images to numbers: one pass over the images, then all protocols."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dataset import BaseDataset
from mmengine.dist import barrier, broadcast_object_list, is_main_process
from mmengine.logging import print_log
from torch import Tensor

from .cache import FeatureCache, fingerprint_images, fingerprint_weights
from .extraction import LOADING, Loading, extract_features
from .features import NEIGHBORS, FeatureSettings
from .frozen_splits import FrozenSplits
from .protocols import PROTOCOLS, Measurement, Options
from .splits import ImagePaths, labels_of

NAMES = ('train', 'val')
CHUNK = 1024  # rows in memory at once


def check_protocols(
    protocols: Sequence[str], options: Options, num_train: int, with_head: bool
) -> None:
    """Refuse what could not be measured, before any image is read.

    Args:
        protocols: Names of them.
        options: Their settings.
        num_train: Number of training images.
        with_head: Whether there is a projection head.

    Raises:
        ValueError: If a protocol is unknown, there are fewer training images than neighbors, or
            the projection head that clustering needs is not there.
    """
    if unknown := [name for name in protocols if name not in PROTOCOLS]:
        raise ValueError(f'unknown protocol {unknown[0]!r}: choose from {", ".join(PROTOCOLS)}')
    if 'knn' in protocols and max(options.ks) > num_train:
        raise ValueError(
            f'there are {num_train} training images, fewer than k={max(options.ks)}: choose '
            'smaller numbers of neighbors (--ks)'
        )
    if 'clustering' in protocols and not with_head:
        raise ValueError(
            'clustering reads the prototypes of the projection head, and the checkpoint does not '
            'have one: give the full checkpoint of a pre-training, not the backbone alone, or '
            'leave clustering out of the protocols'
        )


def extract_splits(
    extractor: Any,
    datasets: Sequence[BaseDataset],
    folder: str | Path,
    linear: FeatureSettings = NEIGHBORS,
    project: Callable[[Tensor], Tensor] | None = None,
    loading: Loading = LOADING,
    dtype: str = 'float32',
    center: bool = False,
) -> FrozenSplits:
    """Extract the features of both splits, in all processes, or find them in the cache.

    Args:
        extractor: With ``settings`` and ``layout``, see
            :class:`~ibot_mm.evaluation.FeatureExtractor`.
        datasets: Training and held-out split.
        folder: Of the caches.
        linear: The feature of linear probing. Defaults to [CLS] of the last block.
        project: See :class:`~ibot_mm.evaluation.frozen_splits.FrozenSplits`. Defaults to None.
        loading: How images are loaded.
        dtype: Of the stored features, 'float32' or 'float16'. Defaults to 'float32'.
        center: Whether to subtract the mean of the training features; the centered ones are stored
            beside the others. Defaults to False.
    """
    extractor.to(loading.device)
    caches = []
    for dataset, name in zip(datasets, NAMES):
        image = dataset[0]['inputs'][None].to(loading.device)
        layout = extractor.layout(loading.prepare(image))
        cache = FeatureCache(
            folder,
            name,
            cache_key(extractor, dataset, loading, image.shape[1]),
            (len(dataset), layout.width),
            dtype,
        )
        extract_features(extractor, dataset, cache, loading, f'features of {name}')
        caches.append(cache)
    if center:
        caches = _center(caches)
    train, held_out = (cache.features() for cache in caches)
    train_labels, held_out_labels = (labels_of(dataset) for dataset in datasets)
    return FrozenSplits(
        train,
        train_labels,
        held_out,
        held_out_labels,
        layout,
        num_classes=int(max(train_labels.max(), held_out_labels.max())) + 1,
        linear=linear,
        project=project,
        key=' '.join(cache.folder.name for cache in caches),
    )


def _center(caches: Sequence[FeatureCache]) -> list[FeatureCache]:
    """Write caches of the same features less the mean of the first cache's, part by part."""
    first = caches[0]
    total = sum(part.double().sum(dim=0) for part in first.features().split(CHUNK))
    mean = total / first.shape[0]
    centered = []
    for cache, name in zip(caches, NAMES):
        key = cache.key | dict(centered_by=first.folder.name)
        target = FeatureCache(cache.folder.parent, name, key, cache.shape, cache.dtype.name)
        pending, features = torch.from_numpy(target.pending()), cache.features()
        barrier()
        if is_main_process():
            for rows in pending.split(CHUNK):
                target.write(rows.numpy(), features[rows].double() - mean)
        barrier()
        centered.append(target)
    return centered


def cache_key(
    extractor: Any, dataset: BaseDataset, loading: Loading, num_channels: int = 3
) -> dict[str, Any]:
    """List what the features of a data set depend on: weights, images, view, settings."""
    hashes: list[Any] = [None]
    if is_main_process():
        hashes = [fingerprint_dataset(dataset)]
    broadcast_object_list(hashes)
    colors = torch.tensor([[0, 100, 200], [255, 50, 150]], dtype=torch.uint8)  # two BGR pixels
    colors = colors.repeat(1, -(-num_channels // 3))[:, :num_channels]
    prepared = loading.prepare(colors.T[None, :, None].to(loading.device))  # (1, C, 1, 2)
    return dict(
        network=type(getattr(extractor, 'backbone', extractor)).__name__,
        weights=fingerprint_weights(extractor),
        images=hashes[0],
        view=[str(transform) for transform in dataset.pipeline.transforms],
        prepare=[round(value, 3) for value in prepared.flatten().tolist()],
        features=extractor.settings.as_dict(),
    )


def fingerprint_dataset(dataset: Any) -> str:
    """Hash of the images of a data set; one that is not of files has to know its own."""
    if hasattr(dataset, 'content_fingerprint'):
        return str(dataset.content_fingerprint())
    return fingerprint_images(ImagePaths(dataset))


def run_protocols(
    protocols: Sequence[str], splits: FrozenSplits, options: Options
) -> dict[str, list[Measurement]]:
    """Measure one protocol after the other; in one process.

    Returns:
        Protocol -> its measurements.
    """
    found = {}
    for name in protocols:
        start = time.perf_counter()
        found[name] = PROTOCOLS[name](splits, options)
        print_log(f'{name}: {time.perf_counter() - start:.1f} s', logger='current')
    return found
