# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A folder of images into tar shards, by several processes, which goes on where it ended."""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from ibot_mm.datasets.counted import counted
from ibot_mm.datasets.find_images import EXTENSIONS
from ibot_mm.datasets.stores.files import FileState, StoreFiles
from ibot_mm.datasets.stores.index import ShardIndex
from ibot_mm.datasets.stores.known_index import SUFFIX
from ibot_mm.datasets.stores.pack_list import NAME, PackList
from ibot_mm.datasets.stores.tar import TarStore
from ibot_mm.datasets.transforms.image_errors import BrokenImageError, UnsupportedImageError

from .encoding import Encoding, sniff
from .processes import run_all
from .source import Source, open_source

LEFT_OUT = 'left_out.txt'
KEEP_BYTES = Encoding()
JPEG_NAMES = ('.jpg', '.jpeg', '.jpe', '.jfif')
UNREADABLE = (BrokenImageError, UnsupportedImageError, FileNotFoundError, PermissionError)
Track = Callable[[Iterable[int], int], Iterable[int]]


@dataclass
class PackReport:
    """What was packed.

    Args:
        folder: The shards' folder.
        num_images: In the shards.
        num_shards: Of the whole pack.
        num_done_before: Shards that an earlier call had finished.
        left_out: (name, reason) of the images that could not be read.
        about: What was found in the source.
    """

    folder: str
    num_images: int
    num_shards: int
    num_done_before: int
    left_out: list[tuple[str, str]] = field(default_factory=list)
    about: str = ''

    def __str__(self) -> str:
        before = f', {self.num_done_before} of them done before' if self.num_done_before else ''
        text = (
            f'{self.folder}: {counted(self.num_images, "image")} in '
            f'{counted(self.num_shards, "shard")}{before} (found: {self.about})'
        )
        if self.left_out:
            text += f'\nleft out: {counted(len(self.left_out), "image")}, named in {LEFT_OUT} there'
        return text


def pack_images(
    source: str,
    out: str | Path,
    encoding: Encoding = KEEP_BYTES,
    images_per_shard: int = 5000,
    num_workers: int = 4,
    track: Track = lambda numbers, _: numbers,
) -> PackReport:
    """Write all images of a folder, or of another store, into tar shards.

    A shard is written under another name and renamed once it is whole. What is finished is not
    made again. Each image is decoded once: those that cannot be are named in ``left_out.txt``.

    Args:
        source: See :func:`open_source`.
        out: Folder for ``000000.tar`` with its index ``000000.tar.index``, and so on;
            ``pack.json`` lists them.
        encoding: What becomes of an image. Defaults to its bytes.
        images_per_shard: Defaults to 5000.
        num_workers: Processes. Defaults to 4.
        track: Wraps the numbers of images, as they are done, to show progress; gets their total.

    Returns:
        What was packed.

    Raises:
        ValueError: ``out`` holds something else, or the source has no images.
        FileNotFoundError: There is no such source.
    """
    if images_per_shard < 1:
        raise ValueError(f'images_per_shard must be at least 1, got {images_per_shard}')
    images, folder = open_source(source), Path(out)
    settings = dict(asdict(encoding), source=images.fingerprint())
    plan = PackList(len(images.names), images_per_shard, images.classes, settings)
    _begin(folder, plan)
    waiting = [shard for shard, name in enumerate(plan.shards) if not _is_done(folder / name)]
    ready = len(plan.shards) - len(waiting)
    total = sum(len(_rows(plan, shard)) for shard in waiting)
    make = partial(_write_shard, images=images, folder=folder, plan=plan, encoding=encoding)
    for _ in track(run_all(make, waiting, num_workers), total):
        pass
    indices = [_read_index(folder / name) for name in plan.shards]
    left_out = [entry for index in indices for entry in index.left_out]
    lines = ''.join(f'{name}\t{" ".join(reason.split())}\n' for name, reason in left_out)
    if lines:
        _write(folder / LEFT_OUT, lines.encode('utf-8', 'surrogateescape'))
    num_images = sum(map(len, indices))
    return PackReport(str(out), num_images, len(indices), ready, left_out, images.about)


def _begin(folder: Path, plan: PackList) -> None:
    file = folder / NAME
    if file.exists():
        before = PackList(**json.loads(file.read_text()))
        if before != plan:
            pairs = zip(asdict(before).items(), asdict(plan).values(), strict=True)
            changed = [key for (key, old), new in pairs if old != new]
            raise ValueError(
                f'{folder} holds a pack of other images or with other options ({", ".join(changed)}'
                ' differ): give the options of the first call to go on with it, or another folder'
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f'{folder} is not empty and holds no pack: give another folder')
    folder.mkdir(parents=True, exist_ok=True)
    _write(file, plan.to_text().encode())


def _rows(plan: PackList, shard: int) -> range:
    start = shard * plan.images_per_shard
    return range(start, min(start + plan.images_per_shard, plan.num_images))


def _is_done(path: Path) -> bool:
    index = path.with_name(path.name + SUFFIX)
    if not (path.exists() and index.exists()):
        return False
    known = ShardIndex.from_bytes(index.read_bytes())
    return known is not None and known.state.size == path.stat().st_size


def _read_index(path: Path) -> ShardIndex:
    index = ShardIndex.from_bytes(path.with_name(path.name + SUFFIX).read_bytes())
    if index is None:
        raise ValueError(f'{path}{SUFFIX} cannot be read: remove it and pack again')
    return index


def _write_shard(
    shard: int, images: Source, folder: Path, plan: PackList, encoding: Encoding
) -> int:
    path = folder / plan.shards[shard]
    part = path.with_name(f'.{path.name}.part')
    left_out = []
    with open(part, 'wb') as file:
        with tarfile.open(fileobj=file, mode='w', format=tarfile.PAX_FORMAT) as tar:
            for number in _rows(plan, shard):
                name = images.names[number]
                try:
                    content, extension = encoding.apply(images.read(number))
                    origin = _packed_name(name, content, extension)
                except UNREADABLE as error:
                    left_out.append((name, str(error)))
                    continue
                _add(tar, number, origin, content, images.labels)
        file.flush()
        os.fsync(file.fileno())
    index = TarStore(StoreFiles(), tuple(EXTENSIONS)).count(str(part))
    index.left_out, index.state = left_out, FileState(part.stat().st_size)
    _write(path.with_name(path.name + SUFFIX), index.to_bytes())
    os.replace(part, path)
    return len(_rows(plan, shard))


def _add(
    tar: tarfile.TarFile, number: int, name: str, content: bytes, labels: list[int] | None
) -> None:
    """Add a sample in webdataset's layout: the image, its class, and the name it had."""
    note = json.dumps(dict(path=name))
    parts = {Path(name).suffix[1:].lower(): content, 'json': note.encode()}
    if labels is not None:
        parts['cls'] = str(labels[number]).encode()
    for end, part in parts.items():
        member = tarfile.TarInfo(f'{number:09d}.{end}')
        member.size, member.mode = len(part), 0o644
        tar.addfile(member, io.BytesIO(part))


def _packed_name(name: str, content: bytes, extension: str) -> str:
    """Name an image by which it is unpacked, with the ending of what it is now."""
    suffix = Path(name).suffix.lower()
    if extension:
        return name if suffix in JPEG_NAMES else f'{name}.{extension}'
    return name if suffix in EXTENSIONS else f'{name}.{sniff(content)}'


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f'.{path.name}.part')
    part.write_bytes(content)
    os.replace(part, path)
