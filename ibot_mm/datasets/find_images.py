# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Which files of a folder are images, and what else lies there."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import PurePosixPath

import cv2

# What OpenCV, which reads for LoadImage, can decode; the last two only in newer builds.
EXTENSIONS = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp', '.tif', '.tiff', '.jp2', '.bmp', '.dib'),
    *('.ppm', '.pgm', '.pbm', '.pnm', '.pam', '.pfm', '.hdr', '.ras', '.sr'),
    *(extension for extension in ('.avif', '.gif') if cv2.haveImageWriter(extension)),
)


@dataclass
class FoundFiles:
    """Images of a folder, and the number of other files by kind.

    Args:
        images: Paths relative to the folder, with slashes, sorted.
        passed_over: Number of files by kind, that is by extension, or 'hidden', 'broken link',
            'second link', 'without extension'.
        hidden_folders: Number of folders left out since their names start with a dot.
        folders: Names of the folders directly below, sorted, hidden ones left out.
    """

    images: list[str] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    hidden_folders: int = 0
    folders: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = ', '.join(f'{count} {kind}' for kind, count in self.passed_over.most_common())
        others = f'{self.passed_over.total()} other files passed over' + (kinds and f' ({kinds})')
        hidden = self.hidden_folders
        folders = f', {hidden} hidden folder{"s" * (hidden > 1)} left out' if hidden else ''
        return f'{len(self.images)} images, {others}{folders}'


def find_images(
    root: str, extensions: Sequence[str] = EXTENSIONS, at_most: float = inf
) -> FoundFiles:
    """Find all images below a local folder.

    Hidden folders and files, whose names start with a dot, are left out: they hold thumbnails,
    checkpoints of notebooks and leftovers of copying. Linked folders are entered once: not where
    their target was visited or holds ``root``. A link to an image that is found without it does
    not count again.

    Args:
        root: The folder.
        extensions: Endings of images' names, in lower case. Defaults to all that
            :class:`ibot_mm.LoadImage` can decode.
        at_most: Stop once there are so many. Defaults to infinity.

    Returns:
        What was found.
    """
    found, extensions = FoundFiles(), tuple(extensions)
    visited = set(_ancestors(root))
    links: list[str] = []  # to folders, entered after all that need no link
    linked_files: list[str] = []
    queue = [root]
    while (queue or links) and len(found.images) < at_most:
        folder = queue.pop() if queue else links.pop(0)
        key = _key(folder)
        if key in visited and folder != root:
            continue
        visited.add(key)
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                hidden = entry.name.startswith('.')
                if entry.is_dir():
                    found.hidden_folders += hidden
                    if not hidden:
                        (links if entry.is_symlink() else queue).append(entry.path)
                        found.folders += [entry.name] if folder == root else []
                    continue
                name = os.path.relpath(entry.path, root).replace(os.sep, '/')
                kind = '' if entry.is_file() or hidden else 'broken link'
                kind = kind or kind_of(name, extensions)
                if kind:
                    found.passed_over[kind] += 1
                else:
                    (linked_files if entry.is_symlink() else found.images).append(name)
    _add_links(found, linked_files, root)
    found.images.sort()
    return found


def kind_of(path: str, extensions: Sequence[str] = EXTENSIONS) -> str:
    """Say what a file is by its name: '' for an image, else its kind.

    Args:
        path: The file's path, with slashes.
        extensions: Endings of images' names, in lower case.
    """
    name = PurePosixPath(path).name
    if name.startswith('.'):
        return 'hidden'
    if name.lower().endswith(tuple(extensions)):
        return ''
    return PurePosixPath(name).suffix.lower() or 'without extension'


def _add_links(found: FoundFiles, links: Sequence[str], root: str) -> None:
    """Add linked images whose target is not among the found ones."""
    real_root = os.path.realpath(root)
    taken = {os.path.join(real_root, *name.split('/')) for name in found.images} if links else set()
    for name in sorted(links):
        target = os.path.realpath(os.path.join(root, name))
        if target in taken:
            found.passed_over['second link'] += 1
        else:
            taken.add(target)
            found.images.append(name)


def _ancestors(root: str) -> Iterator[tuple[int, int]]:
    """List the folders that hold ``root``: a link to one of them would find the whole disk."""
    folder = os.path.realpath(root)
    while (parent := os.path.dirname(folder)) != folder:
        yield _key(parent)
        folder = parent


def _key(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
