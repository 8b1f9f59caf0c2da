# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Tar shards into a folder of images."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from ibot_mm.datasets.stores.datasets import TarImages


def unpack_images(
    shards: str | Path,
    out: str | Path,
    track: Callable[[Iterable[int], int], Iterable[int]] = lambda numbers, _: numbers,
) -> int:
    """Write the images of tar shards as files.

    Images that had a name with folders get it back; others of a class go into a folder of its
    name or number. A file is written under another name and renamed once it is whole; what is
    there already, with the same bytes, stays.

    Args:
        shards: What :class:`TarImages` takes.
        out: Folder.
        track: Wraps the numbers of the images, of which it gets the number. Defaults to none.

    Returns:
        Number of images.

    Raises:
        ValueError: A name leads out of the folder, or two images, or an image and another file,
            have the same name.
        StoreError: A shard is damaged.
    """
    dataset = TarImages(str(shards))
    folders = _class_folders(str(shards), dataset)
    names = [_name(dataset, number, folders) for number in range(len(dataset))]
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f'{shards} has several images {twice}: unpack each shard by itself')
    for number in track(range(len(names)), len(names)):
        path = Path(out, names[number])
        content = dataset.get_data_info(number)['img_file'].read_bytes()
        if path.exists():
            if path.read_bytes() != content:
                raise ValueError(f'{path} is another file already: give an empty folder')
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f'.{path.name}.part')
        part.write_bytes(content)
        os.replace(part, path)
    return len(names)


def _class_folders(shards: str, dataset: TarImages) -> dict[str, str] | None:
    """Folder of the class of each image without one."""
    inner = (_inner(dataset, number) for number in range(len(dataset)))
    if all('/' in name for name in inner):
        return None
    try:
        labeled = TarImages(shards, with_label=True)
    except ValueError:  # no labels
        return None
    classes = labeled.metainfo['classes']
    infos = (labeled.get_data_info(number) for number in range(len(labeled)))
    return {info['img_path']: classes[info['gt_label']] for info in infos}


def _inner(dataset: TarImages, number: int) -> str:
    return dataset.get_data_info(number)['img_file'].name


def _name(dataset: TarImages, number: int, folders: dict[str, str] | None) -> str:
    info = dataset.get_data_info(number)
    name = info['img_file'].name
    if folders is not None and '/' not in name:
        name = f'{folders[info["img_path"]]}/{name}'
    if PurePosixPath(name).is_absolute() or '..' in PurePosixPath(name).parts:
        raise ValueError(f'{info["img_path"]} would be written outside of the folder: left alone')
    return name
