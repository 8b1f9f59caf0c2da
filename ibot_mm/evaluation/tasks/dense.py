# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Linear and k-NN segmentation of frozen patch tokens, in minutes, for choosing checkpoints.

Layout of a plain folder::

    ROOT/images/{training,validation}/NAME.jpg
    ROOT/annotations/{training,validation}/NAME.png     0 unlabeled, then 1 + class

or any data set of mmseg, by the option ``config``. Images may differ in size. The features are
frozen tokens of the last block, as in the evaluations of CAPI (arXiv 2502.08769) and Franca (arXiv
2507.14137), and yet no published number is made exactly this way: it compares networks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ibot_mm.functional.knn import nearest_neighbors, vote

from ..extraction import track
from ..patch_probe import highest_class, majority_labels, segmentation_metrics
from ..protocols.linear import fit_sweep
from ..protocols.measurement import Measurement, Options
from ..scenes import IGNORED, SPLITS, FolderScenes, Scenes, segmentation_scenes
from ..splits import DataError
from .network import TaskNetwork, preparation, stride_of, token_maps
from .settings import settings_of


@dataclass(frozen=True)
class DenseSettings:
    """Settings of the segmentation.

    Args:
        image_size: Pixels of the shorter side; both are then brought to multiples of the patch
            size. Label maps are compared at their own size.
        num_patches: Training patches of all images together, sampled by the seed.
        train_images: Training images, evenly spaced; 0 for all.
        val_images: Validation images, evenly spaced; 0 for all.
        ks: Numbers of neighbors.
        learning_rates: Of the linear layers, for 256 patches a step.
        epochs: Of the linear layers.
        num_classes: 0 to count them in all label maps, which reads the data once more.
        reduce_zero_label: Whether 0 is unlabeled in the folder's label maps.
        config: Config of mmseg whose data are taken, with ROOT as its ``data_root``; '' for a plain
            folder.
    """

    image_size: int = 448
    num_patches: int = 200_000
    train_images: int = 0
    val_images: int = 0
    ks: tuple[int, ...] = (10, 30)
    learning_rates: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0)
    epochs: int = 10
    num_classes: int = 0
    reduce_zero_label: bool = True
    config: str = ''


def dense(network: TaskNetwork, root: Path, options: Options) -> list[Measurement]:
    """Segment images by a linear layer on patch tokens, and by the votes of nearest patches.

    Scores of patches are enlarged to the label map, bilinearly, and compared pixel by pixel. Memory
    does not grow with the number of images.

    Returns:
        For each learning rate and number of neighbors ``miou``, over the classes that the
        validation images have, and ``accuracy``, in percent.

    Raises:
        DataError: See :func:`check_dense`; or if a label is beyond the number of classes.
    """
    settings = settings_of(options, 'dense', DenseSettings)
    train, held_out, num_classes = _read_scenes(root, settings)
    num_classes = settings.num_classes or num_classes or highest_class((train, held_out)) + 1
    train, held_out = (
        _evenly(scenes, number)
        for scenes, number in ((train, settings.train_images), (held_out, settings.val_images))
    )
    reader = SceneReader(network, settings, options, num_classes)
    tokens, labels = reader.sample_patches(train)
    if len(labels) < max(settings.ks):
        raise DataError(
            f'there are {len(labels)} labeled training patches, fewer than k={max(settings.ks)}: '
            'choose smaller dense.ks'
        )
    sweep = fit_sweep(
        tokens,
        labels,
        num_classes,
        replace(options, epochs=settings.epochs, learning_rates=settings.learning_rates),
    )
    confusion = dict[tuple[str, str, float], Tensor]()
    bank = F.normalize(tokens, dim=1)
    for of_image, (height, width), truth in reader.read(held_out, 'dense: validation'):
        flat = of_image.flatten(0, 1)
        scores: dict[tuple[str, str, float], Tensor] = {}
        linear = sweep.scores(flat).nan_to_num(nan=-torch.inf)  # of layers that diverged
        for number, rate in enumerate(settings.learning_rates):
            scores['linear', 'lr', rate] = linear[:, number]
        similarity, neighbors = nearest_neighbors(bank, flat, max(settings.ks))
        classes = labels.to(neighbors.device)[neighbors]
        for k in settings.ks:
            votes = vote(similarity[:, :k], classes[:, :k], options.temperature, num_classes)
            scores['k-NN', 'k', k] = votes / votes.sum(dim=1, keepdim=True)
        for key, of_patches in scores.items():
            counts = _count(of_patches.T.unflatten(1, (height, width)), truth)
            confusion[key] = confusion.get(key, torch.zeros_like(counts)) + counts
    return [
        Measurement(
            {'probe': probe, name: value, 'images': len(held_out)},
            segmentation_metrics(matrix.double()),
        )
        for (probe, name, value), matrix in confusion.items()
    ]


def check_dense(root: Path, options: Options) -> None:
    """Refuse data without images, or whose images and label maps do not fit each other.

    Raises:
        DataError: If they are such.
        ValueError: If an option is out of range.
    """
    settings = settings_of(options, 'dense', DenseSettings)
    positive = ('image_size', 'num_patches', 'epochs')
    if wrong := [name for name in positive if getattr(settings, name) < 1]:
        raise ValueError(f'dense.{wrong[0]} must be at least 1, got {getattr(settings, wrong[0])}')
    if not settings.ks or min(settings.ks) < 1 or not settings.learning_rates:
        raise ValueError(
            'dense needs ks of at least 1 and one learning rate or more, got '
            f'{settings.ks} and {settings.learning_rates}'
        )
    train, held_out, _ = _read_scenes(root, settings)
    for scenes in (train, held_out):
        if isinstance(scenes, FolderScenes):
            scenes.check_sizes()


def _read_scenes(root: Path, settings: DenseSettings) -> tuple[Scenes, Scenes, int]:
    """Return both splits and the number of classes, 0 if that is not known."""
    if settings.config:
        return segmentation_scenes(settings.config, str(root))
    train, held_out = (FolderScenes(root, split, settings.reduce_zero_label) for split in SPLITS)
    return train, held_out, 0


def _evenly(scenes: Scenes, number: int) -> Scenes:
    if not 0 < number < len(scenes):
        return scenes
    rows = np.linspace(0, len(scenes) - 1, number).round().astype(int)
    return torch.utils.data.Subset(scenes, rows.tolist())


class SceneReader:
    """Reads the patch tokens and labels of images, one by one.

    Args:
        network: Frozen.
        settings: Of the task.
        options: ``num_workers``, ``seed`` and ``device``.
        num_classes: Number of classes.
    """

    def __init__(
        self, network: TaskNetwork, settings: DenseSettings, options: Options, num_classes: int
    ) -> None:
        self.settings, self.options, self.num_classes = settings, options, num_classes
        self.stride = stride_of(network.backbone)
        self.prepare, self.compute = preparation(network), token_maps(network)

    @torch.no_grad()
    def read(self, scenes: Scenes, title: str) -> Iterator[tuple[Tensor, tuple[int, int], Tensor]]:
        """Yield tokens (h, w, D), the grid (h, w), and the classes of all pixels (H, W)."""
        loader = DataLoader(
            _Resized(scenes, self.settings.image_size, self.stride),
            batch_size=None,
            num_workers=min(self.options.num_workers, len(scenes)),
        )
        numbered = (([number], loaded) for number, loaded in enumerate(loader))
        for (number,), (image, truth) in track(numbered, len(scenes), title):
            known = truth[truth != IGNORED]
            if len(known) and int(known.max()) >= self.num_classes:
                raise DataError(
                    f'image {number} of {title} has the label {int(known.max())}, and there are '
                    f'{self.num_classes} classes: raise dense.num_classes, or look at '
                    'dense.reduce_zero_label'
                )
            tokens = self.compute(self.prepare(image[None].to(self.options.device)))[0]
            yield tokens, (tokens.shape[0], tokens.shape[1]), truth

    def sample_patches(self, scenes: Scenes) -> tuple[Tensor, Tensor]:
        """Sample tokens (N, D) and classes (N,) of labeled patches, as many of each image.

        Raises:
            DataError: If no patch is labeled.
        """
        generator = torch.Generator().manual_seed(self.options.seed)
        per_image = -(-self.settings.num_patches // len(scenes))
        tokens, labels = [], []
        for of_image, (height, width), truth in self.read(scenes, 'dense: training'):
            size = height * self.stride, width * self.stride
            resized = cv2.resize(
                truth.numpy().astype(np.int32), size[::-1], interpolation=cv2.INTER_NEAREST
            )
            classes = majority_labels(torch.from_numpy(resized), self.stride, self.num_classes)
            known = (classes != IGNORED).nonzero()[:, 0]
            rows = known[torch.randperm(len(known), generator=generator)[:per_image]]
            tokens.append(of_image.flatten(0, 1)[rows.to(of_image.device)].cpu())
            labels.append(classes[rows])
        if not any(map(len, labels)):
            raise DataError('no training patch is labeled: look at dense.reduce_zero_label')
        return torch.cat(tokens), torch.cat(labels)


class _Resized(Dataset[tuple[Tensor, Tensor]]):
    """Images whose sides are multiples of the patch size, and their label maps as they are."""

    def __init__(self, scenes: Scenes, image_size: int, stride: int) -> None:
        self.scenes, self.image_size, self.stride = scenes, image_size, stride

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, labels = self.scenes[index]
        scale = self.image_size / min(image.shape[:2])
        height, width = (
            max(1, round(side * scale / self.stride)) * self.stride for side in image.shape[:2]
        )
        smaller = height < image.shape[0]
        resized = cv2.resize(
            image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        )
        return torch.from_numpy(resized).permute(2, 0, 1), torch.from_numpy(labels)


def _count(scores: Tensor, truth: Tensor) -> Tensor:
    """Count pixels by class and prediction (C, C), of scores (C, h, w) and classes (H, W)."""
    num_classes, size = len(scores), (truth.shape[0], truth.shape[1])
    large = F.interpolate(scores[None], size, mode='bilinear', align_corners=False)
    predicted, known = large[0].argmax(dim=0).cpu(), truth != IGNORED
    cells = truth[known] * num_classes + predicted[known]
    return cells.bincount(minlength=num_classes**2).view(num_classes, num_classes)
