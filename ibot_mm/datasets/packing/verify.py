# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Whether shards are whole, and every image in them can be read."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from ibot_mm.datasets.counted import counted
from ibot_mm.datasets.find_images import EXTENSIONS
from ibot_mm.datasets.store_error import StoreError
from ibot_mm.datasets.stores.files import StoreFiles
from ibot_mm.datasets.stores.index import ShardIndex
from ibot_mm.datasets.stores.known_index import SUFFIX
from ibot_mm.datasets.stores.pack_list import PackList
from ibot_mm.datasets.stores.tar import TarStore
from ibot_mm.datasets.transforms.decode_image import decode_image
from ibot_mm.datasets.transforms.image_errors import BrokenImageError, UnsupportedImageError

from .processes import run_all


@dataclass
class VerifyReport:
    """What reading all shards has shown.

    Args:
        num_images: That were read.
        num_shards: That should be there.
        faults: One text for each, which names shard and image.
    """

    num_images: int
    num_shards: int
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        read = f'{counted(self.num_images, "image")} in {counted(self.num_shards, "shard")}'
        lines = [f'{read}: {counted(len(self.faults), "fault")}']
        return '\n  '.join([*lines, *self.faults])


def verify_images(
    folder: str | Path,
    num_workers: int = 4,
    track: Callable[[Iterable[tuple], int], Iterable[tuple]] = lambda results, _: results,
) -> VerifyReport:
    """Read every shard and decode every image.

    Args:
        folder: Of tar shards, packed by :func:`pack_images` or not.
        num_workers: Processes. Defaults to 4.
        track: Wraps the results of the shards, of which it gets the number. Defaults to none.

    Returns:
        The report; it has no faults where all is well.

    Raises:
        FileNotFoundError: There is no shard.
    """
    files, place = StoreFiles(), str(folder)
    plan = PackList.read(files, place, TarStore.suffixes)
    shards = plan.paths(place) if plan else files.expand(place, TarStore.suffixes)
    check = partial(_check_shard, store=TarStore(files, tuple(EXTENSIONS)), plan=plan)
    results = sorted(track(run_all(check, list(enumerate(shards)), num_workers), len(shards)))
    faults = [fault for _, _, of_shard in results for fault in of_shard]
    return VerifyReport(sum(number for _, number, _ in results), len(shards), faults)


def _check_shard(
    numbered: tuple[int, str], store: TarStore, plan: PackList | None
) -> tuple[int, int, list[str]]:
    number, path = numbered
    if not os.path.exists(path):
        return number, 0, [f'{path} is missing: pack again, which goes on where it ended']
    try:
        found = store.count(path)
    except StoreError as error:
        return number, 0, [str(error)]
    faults = _compare(path, found, store, number, plan)
    for row in range(len(found)):
        name, location = found.names[row], tuple(found.locations[row].tolist())
        try:
            decode_image(store.read(path, name, location))
        except (BrokenImageError, StoreError) as error:
            faults.append(f'{path}/{name}: {error}')
        except UnsupportedImageError:
            pass  # a sound image
    return number, len(found), faults


def _compare(
    path: str, found: ShardIndex, store: TarStore, number: int, plan: PackList | None
) -> list[str]:
    """Compare a shard with its index and the list of the pack."""
    content = store.files.read_if_there(path + SUFFIX)
    if content is None:
        return [f'{path}{SUFFIX} is missing'] if plan else []
    index = ShardIndex.from_bytes(content)
    arrays = ('locations', 'labels')
    same = index is not None and all(
        np.array_equal(getattr(index, name), getattr(found, name)) for name in arrays
    )
    same = same and np.array_equal(index.names.content, found.names.content)  # type: ignore[union-attr]
    if index is None or not same or index.state.size != store.state(path).size:
        return [f'{path}{SUFFIX} is not the index of the shard: remove both and pack again']
    if plan is None:
        return []
    start = number * plan.images_per_shard
    expected = min(plan.images_per_shard, plan.num_images - start)
    if len(found) + len(index.left_out) != expected:
        return [
            f'{path} has {counted(len(found), "image")} and left out {len(index.left_out)}, '
            f'of {expected}'
        ]
    return []
