# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writers: one for each format that the real configs read."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from skimage.measure import approximate_polygon, find_contours

from .compose import Instance, Scene

# ADE20K reserves 0 for unlabeled pixels, which `reduce_zero_label` turns into 255; digit d has
# the value d + 1, and what is not a digit is a class of its own.
ADE_UNLABELED = 0
ADE_BACKGROUND = 11
CLASSES = ('zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine')


def write_jpeg(path: Path, image: np.ndarray, quality: int) -> None:
    """Write an image, uint8 (H, W, 3) RGB, as JPEG and make its folder.

    Raises:
        OSError: If the file could not be written.
    """
    _write(path, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])


def _write(path: Path, image: np.ndarray, options: list[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written, data = cv2.imencode(path.suffix, np.ascontiguousarray(image), options)
    if not written:
        raise OSError(f'{path} could not be encoded')
    path.write_bytes(data.tobytes())


class ImageNetWriter:
    """Folders of images, one folder a class: ``<split>/digit_<label>/<number>.jpg``.

    Args:
        root: Folder of the data set.
        split: 'train' or 'val'.
        quality: Quality of the JPEG files.
    """

    def __init__(self, root: Path, split: str, quality: int) -> None:
        self.folder = root / split
        self.quality = quality

    def add(self, number: int, scene: Scene, label: int) -> None:
        """Write one image of one class."""
        path = self.folder / f'digit_{label}' / f'{number:06d}.jpg'
        write_jpeg(path, scene.image, self.quality)


class CocoWriter:
    """COCO detection: ``<split>/<number>.jpg`` and ``annotations/instances_<split>.json``.

    Args:
        root: Folder of the data set.
        split: 'train' or 'val'.
        quality: Quality of the JPEG files.
    """

    def __init__(self, root: Path, split: str, quality: int) -> None:
        self.folder = root / split
        self.file = root / 'annotations' / f'instances_{split}.json'
        self.quality = quality
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, number: int, scene: Scene) -> None:
        """Write one image and keep its annotations."""
        # COCO numbers images and annotations from 1: its evaluation reads number 0 as no match.
        name = f'{number + 1:012d}.jpg'
        height, width = scene.image.shape[:2]
        write_jpeg(self.folder / name, scene.image, self.quality)
        self.images.append(dict(id=number + 1, file_name=name, height=height, width=width))
        for instance in scene.instances:
            self.annotations.append(
                dict(
                    id=len(self.annotations) + 1,
                    image_id=number + 1,
                    category_id=instance.label + 1,
                    bbox=[float(value) for value in instance.box],
                    area=float(instance.mask.sum()),
                    segmentation=encode_mask(instance),
                    iscrowd=int(instance.crowd),
                )
            )

    def close(self) -> None:
        """Write the annotations of all images."""
        categories = [
            dict(id=label + 1, name=name, supercategory='digit')
            for label, name in enumerate(CLASSES)
        ]
        content = dict(
            info=dict(description='Handwritten digits on photographs, composed by ibot-mm'),
            licenses=[],
            images=self.images,
            annotations=self.annotations,
            categories=categories,
        )
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(content))


class AdeWriter:
    """ADE20K: ``images/<split>/<name>.jpg`` and ``annotations/<split>/<name>.png``.

    Args:
        root: Folder of the data set.
        split: 'train' or 'val'; the folders are called training and validation.
        quality: Quality of the JPEG files.
    """

    def __init__(self, root: Path, split: str, quality: int) -> None:
        self.root = root
        self.split = {'train': 'training', 'val': 'validation'}[split]
        self.prefix = f'ADE_{split}_'
        self.quality = quality

    def add(self, number: int, scene: Scene) -> None:
        """Write one image and its map of classes."""
        name = f'{self.prefix}{number + 1:08d}'
        write_jpeg(self.root / 'images' / self.split / f'{name}.jpg', scene.image, self.quality)
        # Counted from 0 as in the scene, then one up, which turns 255 into 0.
        classes = scene.semantic_map(background=ADE_BACKGROUND - 1, ignored=255) + np.uint8(1)
        _write(self.root / 'annotations' / self.split / f'{name}.png', classes, [])


def encode_mask(instance: Instance) -> list[list[float]] | dict[str, Any]:
    """Encode a mask in the way of COCO that says it exactly.

    Args:
        instance: The digit or crowd.

    Returns:
        Polygons for a digit without holes, compressed run lengths for one with holes, which
        polygons cannot say, and uncompressed run lengths for a crowd, as in COCO.
    """
    mask = instance.mask
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    if instance.crowd:
        return dict(size=list(mask.shape), counts=_run_lengths(mask))
    polygons = outline(mask)
    if np.array_equal(decode_mask(polygons, mask.shape), mask):
        return polygons
    return dict(size=list(mask.shape), counts=encoded['counts'].decode())


def decode_mask(segmentation: list | dict[str, Any], size: tuple[int, ...]) -> np.ndarray:
    """Decode any segmentation of COCO to a mask, bool (H, W)."""
    if isinstance(segmentation, list):
        runs = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation['counts'], list):
        runs = coco_mask.frPyObjects(segmentation, *size)
    else:
        runs = segmentation
    return coco_mask.decode(runs).astype(bool)


def outline(mask: np.ndarray) -> list[list[float]]:
    """Trace the outlines of a mask: polygons [x, y, x, y, ...] in pixels from the corner."""
    # A margin closes outlines at the border; half a pixel goes from pixel centers to edges.
    contours = find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected='low')
    corners = [approximate_polygon(contour, 0)[:-1] - 0.5 for contour in contours]
    return [polygon[:, ::-1].ravel().tolist() for polygon in corners]


def _run_lengths(mask: np.ndarray) -> list[int]:
    """Lengths of runs down the columns, beginning with a run of zeros that may be empty."""
    pixels = mask.ravel(order='F').astype(np.int8)
    changes = np.flatnonzero(np.diff(pixels, prepend=0, append=1 - pixels[-1]))
    return np.diff(changes, prepend=0).tolist()
