# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .application import advice


def pack(
    source: str,
    out: Path,
    /,
    *,
    short_side: int | None = None,
    reencode: bool = False,
    quality: int = 95,
    images_per_shard: int = 5000,
    num_workers: int = 4,
) -> None:
    """Write a folder of images into tar shards; what is finished is not made again.

    Example: `ibot-mm pack data/imagenet/train shards/train --short-side 512`

    Args:
        source: Folder of images, or store of them.
        out: Folder of the shards.
        short_side: Shrink images whose shorter side is longer, in pixels. Default: keep all bytes
        reencode: Make a JPEG of every image.
        quality: Of JPEGs that are made.
        images_per_shard: Number.
        num_workers: Processes.
    """
    from ibot_mm.datasets.packing import Encoding, pack_images

    with advice():
        encoding = Encoding(short_side, reencode, quality)
        print(pack_images(source, out, encoding, images_per_shard, num_workers, _track('packing')))


def unpack(shards: str, out: Path, /) -> None:
    """Write the images of tar shards into a folder, labels as folders.

    Example: `ibot-mm unpack shards/train data/train`

    Args:
        shards: Folder, file, address or numbered names of shards.
        out: Folder of the images.
    """
    from ibot_mm.datasets.packing import unpack_images

    with advice():
        print(f'{out}: {unpack_images(shards, out, _track("unpacking"))} images')


def verify(shards: Path, /, *, num_workers: int = 4) -> None:
    """Read every image of tar shards; exit status 1 if one is broken or a shard is not whole.

    Example: `ibot-mm verify shards/train`

    Args:
        shards: Folder.
        num_workers: Processes.
    """
    from ibot_mm.datasets.packing import verify_images

    with advice():
        report = verify_images(shards, num_workers, _track('verifying'))
    print(report)
    if report.faults:
        raise SystemExit(1)


def _track(title: str) -> Any:
    """Show progress of numbers of images, or of anything that is counted."""

    def track(parts: Iterable[Any], total: int) -> Iterator[Any]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        columns = (f'{title} [progress.description]', BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeRemainingColumn(), disable=total == 0) as progress:
            task = progress.add_task(title, total=total)
            for part in parts:
                yield part
                progress.advance(task, part if title == 'packing' else 1)

    return track
