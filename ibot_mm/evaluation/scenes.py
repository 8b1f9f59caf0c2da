# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Images with a class for each pixel: a folder of them, or a data set of mmseg."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from .splits import DataError

IGNORED = 255
SPLITS = ('training', 'validation')
MODES = ('P', 'L', 'I', 'I;16', '1')  # of label maps
SUFFIXES = ('.jpg', '.jpeg', '.png')
LOADING = ('LoadImageFromFile', 'LoadAnnotations')  # of mmseg
LAYOUT = """
It needs the layout of ADE20K (ADEChallengeData2016.zip, sceneparsing.csail.mit.edu):
    ROOT/images/{training,validation}/NAME.jpg
    ROOT/annotations/{training,validation}/NAME.png     0 unlabeled, then 1 + class"""

Scenes = Any  # a sequence of images (H, W, 3), uint8 BGR, and classes (H, W), int64, 255 unlabeled


class FolderScenes(Sequence[tuple[np.ndarray, np.ndarray]]):
    """Images and label maps of a folder, read one by one.

    Args:
        root: Folder in the layout of ADE20K.
        split: 'training' or 'validation'.
        reduce_zero_label: Whether 0 is unlabeled and classes are counted from 1, as in ADE20K;
            else 0 is a class. 255 is unlabeled in both. Defaults to True.

    Raises:
        DataError: If there are no images, or one has no label map.
    """

    def __init__(self, root: str | Path, split: str, reduce_zero_label: bool = True) -> None:
        self.masks, self.reduce_zero_label = Path(root) / 'annotations' / split, reduce_zero_label
        folder = Path(root) / 'images' / split
        self.paths = sorted(path for path in folder.glob('*') if path.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise DataError(f'{root} has no images/{split}/*.jpg, nor png.{LAYOUT}')
        if missing := [path for path in self.paths if not self._mask(path).is_file()]:
            raise DataError(
                f'{self._mask(missing[0])} is not there: {len(missing)} of {len(self.paths)} '
                f'images have no label map.{LAYOUT}'
            )

    def _mask(self, path: Path) -> Path:
        return self.masks / f'{path.stem}.png'

    def __len__(self) -> int:
        """Count the images."""
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """Read an image, uint8 BGR, and the classes of its pixels, int64.

        Raises:
            DataError: If a file cannot be read, or the sizes differ.
        """
        path, mask_path = self.paths[index], self._mask(self.paths[index])
        image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            raise DataError(f'{path} cannot be read: copy it again')
        try:
            with Image.open(mask_path) as mask:
                mode, labels = mask.mode, np.array(mask).astype(np.int64)
        except OSError as error:
            raise DataError(f'{mask_path} cannot be read ({error}): copy it again') from error
        if mode not in MODES:
            raise DataError(f'{mask_path} is an image of mode {mode}, not a map of labels')
        if labels.shape != image.shape[:2]:
            raise DataError(
                f'{mask_path} is of {labels.shape[1]} x {labels.shape[0]} pixels, and {path} of '
                f'{image.shape[1]} x {image.shape[0]}: an image and its label map need one size'
            )
        if self.reduce_zero_label:
            unlabeled = (labels == 0) | (labels == IGNORED)
            labels = np.where(unlabeled, IGNORED, labels - 1)
        return image, labels

    def check_sizes(self) -> None:
        """Refuse label maps of another size or kind than their image; only heads are read.

        Raises:
            DataError: If there are such.
        """
        for path in self.paths:
            mask_path = self._mask(path)
            try:
                with Image.open(path) as image, Image.open(mask_path) as mask:
                    sizes, mode = (image.size, mask.size), mask.mode
            except OSError as error:
                raise DataError(f'{path} or {mask_path.name} cannot be read ({error})') from error
            if sizes[0] != sizes[1] or mode not in MODES:
                raise DataError(
                    f'{mask_path} is of {sizes[1][0]} x {sizes[1][1]} pixels and mode {mode}, and '
                    f'{path} of {sizes[0][0]} x {sizes[0][1]}: it is not its label map'
                )


class SegmentationScenes(Sequence[tuple[np.ndarray, np.ndarray]]):
    """Images and label maps of a data set of mmseg.

    Args:
        dataset: Of mmseg, whose pipeline loads images and annotations and nothing else.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Count the images."""
        return len(self.dataset)

    def __getitem__(self, index: Any) -> Any:
        """Read an image, uint8 BGR, and the classes of its pixels, int64."""
        loaded = self.dataset[index]
        labels = loaded['gt_seg_map'].astype(np.int64)
        return loaded['img'], np.where(labels == self.dataset.ignore_index, IGNORED, labels)


def segmentation_scenes(
    path: str | Path, data_root: str | None = None
) -> tuple[SegmentationScenes, SegmentationScenes, int]:
    """Build both splits of a config of mmseg.

    Args:
        path: Config with ``train_dataloader`` and ``val_dataloader``.
        data_root: In place of the config's. Defaults to None.

    Returns:
        Training images, validation images, number of classes.

    Raises:
        DataError: If there are no such data sets, images are missing, or mmseg is not installed.
    """
    config = Config.fromfile(path)
    splits = []
    for name in ('train_dataloader', 'val_dataloader'):
        dataset = (config.get(name) or {}).get('dataset')
        while dataset and 'dataset' in dataset:  # repeated, or of several images
            dataset = dataset['dataset']
        if not dataset:
            raise DataError(f'{path} has no {name} with a data set: name a config of mmseg')
        dataset = dict(dataset, pipeline=[dict(type=transform) for transform in LOADING])
        if data_root is not None:
            dataset['data_root'] = data_root
        try:
            with DefaultScope.overwrite_default_scope('mmseg'):
                splits.append(DATASETS.build(dataset))
        except (KeyError, ImportError) as error:
            raise DataError(
                f'the data set of {path} cannot be built ({error}): data sets of mmseg need it '
                'installed (pip install mmsegmentation); a plain folder does not'
            ) from error
        except OSError as error:
            root = dataset.get('data_root')
            raise DataError(
                f'the {name} of {path} does not find its data below {root} ({error}): give the '
                'folder that the config calls data_root by --data'
            ) from error
        if len(splits[-1]) == 0:
            raise DataError(f'the {name} of {path} finds no image below {dataset.get("data_root")}')
        _check_files(splits[-1], f'the {name} of {path}')
    classes = splits[0].metainfo.get('classes')
    if not classes:
        raise DataError(f'the data set of {path} does not name its classes')
    return SegmentationScenes(splits[0]), SegmentationScenes(splits[1]), len(classes)


def _check_files(dataset: Any, title: str) -> None:
    """Refuse a data set of mmseg whose images or label maps are not all there."""
    for kind in ('img_path', 'seg_map_path'):
        files = [str(dataset.get_data_info(row).get(kind)) for row in range(len(dataset))]
        missing = [file for file in files if '://' not in file and not Path(file).is_file()]
        if missing:
            raise DataError(
                f'{len(missing)} of {len(files)} files ({kind}) that {title} names are not there, '
                f'first {missing[0]}'
            )
