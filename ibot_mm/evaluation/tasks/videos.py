# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The files of DAVIS: which videos there are, and whether frames and masks fit each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..splits import DataError

LAYOUT = """
It needs the layout of DAVIS-2017-trainval-480p.zip (davischallenge.org):
    ROOT/ImageSets/2017/val.txt
    ROOT/JPEGImages/480p/VIDEO/00000.jpg ...
    ROOT/Annotations/480p/VIDEO/00000.png ..."""
SCORED = 3  # frames that a video needs: neither the first nor the last is scored


@dataclass(frozen=True)
class VideoFiles:
    """A video and its annotations.

    Args:
        name: Of the video.
        frames: Paths, in order.
        annotations: Of each frame.
    """

    name: str
    frames: Sequence[Path]
    annotations: Sequence[Path]

    def check_sizes(self) -> None:
        """Refuse frames or masks of different sizes; only the heads of files are read.

        Raises:
            DataError: If there are such, a file is not an image, or a mask has no labels.
        """
        first: tuple[int, int] | None = None
        for path in (*self.frames, *self.annotations):
            size, mode = _head(path)
            first = first or size
            if size != first:
                raise DataError(
                    f'{path} is of {size[0]} x {size[1]} pixels, and {self.frames[0]} of '
                    f'{first[0]} x {first[1]}: all frames and masks of a video need one size'
                )
            if path.suffix == '.png' and mode not in ('P', 'L'):
                raise DataError(f'{path} is an image of mode {mode}, not a mask of labels (P or L)')
        labels = read_labels(self.annotations[0])
        if not (labels[labels != 255] > 0).any():
            raise DataError(
                f'{self.annotations[0]} has no object: the first mask says what to follow'
            )


def find_videos(root: Path, split: str = 'val') -> list[VideoFiles]:
    """List the videos of a split.

    Args:
        root: Folder of DAVIS.
        split: Of which ``ImageSets/2017/SPLIT.txt`` has the names. Defaults to 'val'.

    Raises:
        DataError: If the list or a video is missing, empty or too short, or frames have no masks.
    """
    listed = root / 'ImageSets/2017' / f'{split}.txt'
    if not listed.is_file():
        raise DataError(f'there is no file {listed}.{LAYOUT}')
    names = listed.read_text().split()
    if not names:
        raise DataError(f'{listed} names no video.{LAYOUT}')
    videos = []
    for name in names:
        folders = [root / kind / '480p' / name for kind in ('JPEGImages', 'Annotations')]
        frames, masks = (
            sorted(folder.glob(f'*{suffix}')) for folder, suffix in zip(folders, ('.jpg', '.png'))
        )
        if not frames:
            raise DataError(
                f'video {name} of {listed.name} has no frames {folders[0]}/*.jpg.{LAYOUT}'
            )
        annotated = {path.stem for path in masks}
        if missing := [path.name for path in frames if path.stem not in annotated]:
            raise DataError(
                f'{len(missing)} of {len(frames)} frames of video {name} have no mask in '
                f'{folders[1]}, first {missing[0]}: only DAVIS trainval has them all.{LAYOUT}'
            )
        if len(frames) < SCORED:
            raise DataError(
                f'video {name} has {len(frames)} frames: {SCORED} are needed, of which neither '
                'the first nor the last is scored'
            )
        annotations = [folders[1] / f'{path.stem}.png' for path in frames]
        videos.append(VideoFiles(name, frames, annotations))
    return videos


def read_labels(path: Path) -> np.ndarray:
    """Read a mask of labels, uint8 (H, W).

    Raises:
        DataError: If it cannot be read.
    """
    try:
        with Image.open(path) as image:
            return np.array(image)
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f'{path} cannot be read ({error}): copy it again') from error


def _head(path: Path) -> tuple[tuple[int, int], str]:
    try:
        with Image.open(path) as image:
            return image.size, image.mode
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f'{path} cannot be read ({error}): copy it again') from error
