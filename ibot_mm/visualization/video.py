# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Videos read frame by frame, and attention written over them."""

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import print_log
from PIL import Image

from .attention import color_by_head, enlarge, overlay
from .network import NO_BREAK, PictureNetwork, figure_title, read_attention
from .picture import Picture

VIDEOS = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg')
CODECS = {'.mp4': 'mp4v', '.avi': 'MJPG'}
STRIP = 22  # pixels of the line of text above


def frames_per_second(path: str | Path) -> float:
    """Return how many frames of a video are shown in a second.

    Raises:
        ValueError: If it cannot be read.
    """
    video = _open(path)
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return rate if 0 < rate < 1000 else 25.0


def read_frames(path: str | Path, every: int = 1) -> Iterator[Picture]:
    """Read the frames of a video.

    Args:
        path: Of a kind that OpenCV reads.
        every: Take each n-th frame, the first one first. Defaults to 1.

    Yields:
        Frames, named by their number.

    Raises:
        ValueError: If the video cannot be read, has no frames, or ``every`` is less than 1.
    """
    if every < 1:
        raise ValueError(f'every must be at least 1, got {every}')
    video = _open(path)
    number = 0
    try:
        while True:
            found, frame = video.read()
            if not found:
                break
            if number % every == 0:
                pixels = np.ascontiguousarray(frame[..., ::-1])
                yield Picture(f'{Path(path).name}, frame {number}', pixels)
            number += 1
    finally:
        video.release()
    if not number:
        raise ValueError(f'{path} has no frame that OpenCV can read')


def pick_frames(path: str | Path, numbers: Iterable[int]) -> list[Picture]:
    """Return frames of a video by their numbers, counted from 0.

    Raises:
        ValueError: If the video cannot be read or does not have such a frame.
    """
    wanted = list(numbers)
    found: dict[int, Picture] = {}
    length = 0
    for number, frame in enumerate(read_frames(path)):
        length = number + 1
        if number in wanted:
            found[number] = frame
        if len(found) == len(set(wanted)):
            break
    if missing := [number for number in wanted if number not in found]:
        raise ValueError(f'{path} has frames 0 to {length - 1}: there is not a frame {missing[0]}')
    return [found[number] for number in wanted]


def _open(path: str | Path) -> cv2.VideoCapture:
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path} is not there')
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise ValueError(
            f'{path} is not a video that OpenCV can read: convert it to mp4 (H.264), or give its '
            'frames as a folder of images'
        )
    return video


def attention_frames(
    network: PictureNetwork,
    frames: Iterable[Picture],
    mass: float | None = 0.6,
    layer: int | None = None,
) -> Iterator[np.ndarray]:
    """Put each frame beside its attention, batch by batch.

    Args:
        network: See :class:`~ibot_mm.visualization.network.PictureNetwork`.
        frames: Of one size.
        mass: Share of the attention whose patches are colored by head in a third picture; None
            for two pictures. Defaults to 0.6.
        layer: Counted from 1. Defaults to None, the last.

    Yields:
        uint8 RGB (H, W, 3), with a line of text above.
    """
    title = figure_title(network, '[CLS] attention', layer)
    for picture, heads in read_attention(network, frames, layer):
        pixels = picture.pixels
        mean = enlarge(heads.mean(dim=0)[None], picture.size)[0]
        parts = [pixels / 255, overlay(pixels, mean)]
        parts += [color_by_head(pixels, heads, mass)] if mass else []
        frame = (np.concatenate(parts, axis=1) * 255).round().astype(np.uint8)
        yield _with_title(frame, title)


def _with_title(frame: np.ndarray, title: str) -> np.ndarray:
    """Put a line of text above, as large as fits; sides become even, which codecs need."""
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    text = title.replace('·', '|').replace(NO_BREAK, ' ')  # the font has ASCII only
    width = cv2.getTextSize(text, font, scale, 1)[0][0] + 8
    strip = np.full((STRIP, max(width, frame.shape[1]), 3), 255, np.uint8)
    cv2.putText(strip, text, (4, 15), font, scale, (0, 0, 0), 1, cv2.LINE_AA)
    if strip.shape[1] > frame.shape[1]:
        strip = cv2.resize(strip, (frame.shape[1], STRIP), interpolation=cv2.INTER_AREA)
    frame = np.concatenate([strip, frame])
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), constant_values=255)


def write_video(path: str | Path, frames: Iterable[np.ndarray], rate: float = 25.0) -> Path:
    """Write a video by OpenCV, or an animated GIF, one frame at a time.

    Args:
        path: ``.mp4`` (MPEG-4), ``.avi`` (Motion JPEG) or ``.gif``. If OpenCV does not have the
            codec, a GIF is written beside it, and the log says so.
        frames: uint8 RGB (H, W, 3) of one size.
        rate: Frames in a second. Defaults to 25.

    Returns:
        The file written.

    Raises:
        ValueError: If the kind of file is not known, or there are no frames.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (*CODECS, '.gif'):
        raise ValueError(f'{path}: videos are written as {", ".join(CODECS)} or .gif')
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError('no frames to write')
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = chain([first], frames)
    if kind != '.gif':
        size = (first.shape[1], first.shape[0])
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*CODECS[kind]), rate, size)
        if writer.isOpened():
            for frame in frames:
                writer.write(np.ascontiguousarray(frame[..., ::-1]))
            writer.release()
            return path
        path = path.with_suffix('.gif')
        print_log(f'OpenCV cannot write {kind}: written as {path}', 'current', logging.WARNING)
    images = (Image.fromarray(frame).quantize(128) for frame in frames)
    duration = max(20, round(1000 / rate))  # milliseconds; viewers slow down what is faster
    next(images).save(path, save_all=True, append_images=images, duration=duration, loop=0)
    return path
