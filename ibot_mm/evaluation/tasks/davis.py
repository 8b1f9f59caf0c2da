# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Video object segmentation on DAVIS 2017 by label propagation, as published for iBOT and DINO.

Layout::

    ROOT/ImageSets/2017/val.txt                     names of videos, one a line
    ROOT/JPEGImages/480p/VIDEO/00000.jpg ...
    ROOT/Annotations/480p/VIDEO/00000.png ...       labels: 0 background, then objects, 255 unknown

It is DAVIS-2017-trainval-480p.zip of https://davischallenge.org. Videos may differ in size.
"""

import csv
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size, is_main_process
from mmengine.logging import print_log
from PIL import Image
from torch import Tensor

from ibot_mm.functional.label_propagation import LabelPropagation, enlarge_labels, labels_on_grid
from ibot_mm.functional.video_scores import mean_recall_decay, score_frame

from ..protocols.measurement import Measurement, Options
from ..splits import DataError
from ..views import normalize
from .network import TaskNetwork, stride_of, token_maps
from .settings import settings_of
from .videos import VideoFiles, find_videos, read_labels

RED_STD = 0.228  # of DAVIS alone; it is 0.229 everywhere else
METRICS = ('mean', 'recall', 'decay')


@dataclass(frozen=True)
class DavisSettings:
    """Settings of label propagation; the defaults are the published ones.

    Args:
        short_side: Of the frames, in pixels.
        num_last_frames: Predicted frames that are sources, beside the first one.
        radius: Sources lie at most so many patches away; 0 for no limit.
        topk: Sources of a patch that count.
        temperature: Of the similarities.
        split: File of the videos' names, without .txt.
        save_masks: Whether to write the masks to ``work_dir``/davis_masks, where DAVIS's own
            evaluation can read them.
    """

    short_side: int = 480
    num_last_frames: int = 7
    radius: int = 12
    topk: int = 5
    temperature: float = 0.1
    split: str = 'val'
    save_masks: bool = False


def davis(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Carry the masks of the first frames through the videos and score them.

    Scores of single objects are written to ``work_dir``/davis_objects.csv. Memory does not grow
    with the length of a video.

    Returns:
        In percent ``jf``, the mean of ``j_mean`` and ``f_mean`` over all objects, then mean, recall
        and decay of J and of F.

    Raises:
        DataError: See :func:`check_davis`.
    """
    settings = settings_of(options, 'davis', DavisSettings)
    videos = find_videos(root, settings.split)
    own: dict[str, list[float]] = {}  # VIDEO_OBJECT -> mean, recall, decay of J, then of F
    for video in videos[get_rank() :: get_world_size()]:
        scores = np.stack([*_score_video(network, video, settings, options)], axis=-1)
        for label, of_object in enumerate(scores.swapaxes(0, 1), start=1):
            summed = [value for kind in of_object for value in mean_recall_decay(kind)]
            own[f'{video.name}_{label}'] = [100 * value for value in summed]
    rows = dict(sorted(item for part in all_gather_object(own) for item in part.items()))
    names = [f'{kind}_{metric}' for kind in 'jf' for metric in METRICS]
    if is_main_process():
        _write_rows(Path(options.work_dir) / 'davis_objects.csv', names, rows)
    means = dict(zip(names, np.mean(list(rows.values()), axis=0).tolist()))
    metrics = dict(jf=(means['j_mean'] + means['f_mean']) / 2) | means
    return [Measurement(dict(videos=len(videos), objects=len(rows)), metrics)]


def check_davis(root: Path, options: Options) -> None:
    """Refuse a folder without videos, or whose frames and masks do not fit each other.

    Raises:
        DataError: If it is.
        ValueError: If an option is out of range.
    """
    settings = settings_of(options, 'davis', DavisSettings)
    if min(settings.short_side, settings.topk) < 1 or settings.temperature <= 0:
        raise ValueError(
            'davis needs short_side and topk of at least 1 and a temperature above 0, got '
            f'{settings.short_side}, {settings.topk} and {settings.temperature}'
        )
    if min(settings.radius, settings.num_last_frames) < 0:
        raise ValueError(
            'davis needs radius and num_last_frames of at least 0, got '
            f'{settings.radius} and {settings.num_last_frames}'
        )
    for video in find_videos(root, settings.split):
        video.check_sizes()


def input_size(size: tuple[int, int], short_side: int, stride: int) -> tuple[int, int]:
    """Compute height and width of the network's input.

    The longer side is in proportion and rounded down to a multiple of 64 pixels, as published, or
    of four patches where 64 is not a multiple of their size.

    Args:
        size: Height and width of the frames.
        short_side: Wanted, rounded down to a multiple of the patch size.
        stride: The patch size.

    Raises:
        ValueError: If the frames become smaller than a patch.
    """
    multiple = 64 if 64 % stride == 0 else 4 * stride
    short = short_side // stride * stride
    long = int(short_side * max(size) / min(size)) // multiple * multiple
    if min(short, long) == 0:
        raise ValueError(
            f'frames of {size[0]} x {size[1]} become smaller than {multiple} pixels at '
            f'davis.short_side={short_side}: enlarge it'
        )
    return (long, short) if size[0] > size[1] else (short, long)


def _score_video(
    network: TaskNetwork, video: VideoFiles, settings: DavisSettings, options: Options
) -> Iterator[np.ndarray]:
    """Yield J and F (2, objects) of each scored frame: all but the first and the last."""
    first_mask = read_labels(video.annotations[0])
    first_mask[first_mask == 255] = 0
    num_objects, size = int(first_mask.max()), first_mask.shape
    inputs = input_size(size, settings.short_side, stride_of(network.backbone))
    tokens = _frame_tokens(network, video, inputs, options)
    first = next(tokens)
    labels = labels_on_grid(first_mask, (first.shape[0], first.shape[1]))
    _tell_lost_objects(video.name, first_mask, labels)
    propagation = LabelPropagation(
        first,
        labels.to(first),
        settings.num_last_frames,
        settings.radius,
        settings.topk,
        settings.temperature,
    )
    writer = _MaskWriter(video, Path(options.work_dir) / 'davis_masks', settings.save_masks)
    writer.write(0, first_mask)
    last = len(video.frames) - 1
    for number, of_frame in enumerate(tokens, start=1):
        soft = propagation.step(of_frame)
        if number == last and not settings.save_masks:
            return
        mask = enlarge_labels(soft, inputs, size)
        writer.write(number, mask)
        if number < last:
            truth = read_labels(video.annotations[number])
            yield np.stack(score_frame(mask, truth, num_objects))


@torch.no_grad()
def _frame_tokens(
    network: TaskNetwork, video: VideoFiles, inputs: tuple[int, int], options: Options
) -> Iterator[Tensor]:
    """Yield the tokens (h, w, D) of one frame after the other."""
    prepare, compute = network.prepare or prepare_frames, token_maps(network)
    for path in video.frames:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise DataError(f'{path} cannot be read: copy it again')
        image = cv2.resize(image, inputs[::-1])  # bilinear, without antialiasing
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None].to(options.device)
        yield compute(prepare(pixels))[0]


def prepare_frames(images: Tensor) -> Tensor:
    """Make uint8 BGR frames (B, 3, H, W) the network's input as published for DAVIS."""
    prepared = normalize(images.flip(1).float())
    prepared[:, 0] *= 0.229 / RED_STD
    return prepared


def _tell_lost_objects(name: str, mask: np.ndarray, labels: Tensor) -> None:
    """Name objects that are too small for a patch: as published, they are never found."""
    there = {int(label) for label in np.unique(mask) if label}
    left = {label for label in range(1, len(labels)) if labels[label].any()}
    if lost := sorted(there - left):
        print_log(
            f'davis: object {", ".join(map(str, lost))} of {name} vanishes on the grid of '
            f'{labels.shape[1]} x {labels.shape[2]} patches and is scored as never found; a larger '
            'davis.short_side would keep it',
            logger='current',
            level=logging.WARNING,
        )


class _MaskWriter:
    """Writes indexed masks in the colors of the annotations."""

    def __init__(self, video: VideoFiles, folder: Path, enabled: bool) -> None:
        self.video, self.folder, self.enabled = video, folder / video.name, enabled
        if enabled:
            self.folder.mkdir(parents=True, exist_ok=True)
            with Image.open(video.annotations[0]) as annotation:
                self.palette = annotation.getpalette()

    def write(self, number: int, mask: np.ndarray) -> None:
        if not self.enabled:
            return
        image = Image.fromarray(mask)
        if self.palette:
            image.putpalette(self.palette)
        image.save(self.folder / self.video.annotations[number].name)


def _write_rows(path: Path, names: list[str], rows: Mapping[str, list[float]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['object', *names])
        writer.writerows([name, *(f'{value:.4f}' for value in row)] for name, row in rows.items())
