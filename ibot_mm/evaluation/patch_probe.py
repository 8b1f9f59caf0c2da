# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Linear segmentation of frozen patch tokens, one by one.

A linear layer tells the class of a patch from its token alone, and is measured patch by patch. No
published number is made this way: it compares networks with each other.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from .features import FeatureExtractor
from .protocols import Measurement, Options
from .protocols.linear import CHUNK, fit_sweep
from .scenes import IGNORED, SPLITS, FolderScenes, Scenes


def majority_labels(labels: Tensor, patch_size: int, num_classes: int) -> Tensor:
    """Find the most frequent class of each patch.

    Args:
        labels: Class ids (H, W), 255 where unlabeled; sides are multiples of the patch size.
        patch_size: In pixels.
        num_classes: Number of classes.

    Returns:
        Row by row (H/p * W/p,): the class, the lower of equals, or 255 where most is unlabeled.
    """
    # Without labels is one more class, the last.
    known = labels.long().clamp(max=num_classes)
    blocks = known.unfold(0, patch_size, patch_size).unfold(1, patch_size, patch_size)
    pixels = blocks.flatten(2).flatten(0, 1)  # (N, p * p)
    counts = pixels.new_zeros(len(pixels), num_classes + 1)
    counts.scatter_add_(1, pixels, torch.ones_like(pixels))
    found = counts.argmax(dim=1)
    return torch.where(found == num_classes, IGNORED, found)


def probe_patches(
    train: tuple[Tensor, Tensor],
    held_out: tuple[Tensor, Tensor],
    num_classes: int,
    options: Options,
) -> list[Measurement]:
    """Train linear layers on patches and measure them on others.

    Args:
        train: Tokens (N, D) and labels (N,), 255 is left out.
        held_out: The same of other images.
        num_classes: Number of classes.
        options: Settings of linear probing.

    Returns:
        ``miou``, the mean over the classes that the held-out labels have, and ``accuracy``, in
        percent, of each learning rate.
    """
    tokens, labels = _labeled(*train)
    sweep = fit_sweep(tokens, labels, num_classes, options)
    tokens, labels = _labeled(*held_out)
    rates = options.learning_rates
    confusion = torch.zeros(len(rates), num_classes, num_classes, dtype=torch.long)
    for part, targets in zip(tokens.split(CHUNK), labels.split(CHUNK)):
        scores = sweep.scores(part.to(options.device, torch.float32)).nan_to_num(nan=-torch.inf)
        cells = targets[:, None] * num_classes + scores.argmax(dim=2).cpu()  # (B, H)
        for number, of_rate in enumerate(cells.T):
            counts = of_rate.bincount(minlength=num_classes**2)
            confusion[number] += counts.view(num_classes, num_classes)
    return [
        Measurement(dict(lr=rate), segmentation_metrics(matrix.double()))
        for rate, matrix in zip(rates, confusion)
    ]


def read_patches(
    root: str | Path,
    split: str,
    extractor: FeatureExtractor,
    prepare: Callable[[Tensor], Tensor],
    patch_size: int,
    num_classes: int,
) -> tuple[Tensor, Tensor]:
    """Extract the tokens and labels of all patches of a split, in memory.

    Images are cut to a multiple of the patch size and read at their own size, one by one.

    Args:
        root: Folder in the layout of ADE20K.
        split: 'training' or 'validation'.
        extractor: Of the frozen network.
        prepare: Makes uint8 BGR images (B, 3, H, W) the network's input.
        patch_size: In pixels.
        num_classes: Number of classes.

    Returns:
        Tokens (N, D), labels (N,), 255 where most is unlabeled.

    Raises:
        DataError: If the folder has no images of the split, or one lacks its mask.
    """
    device = next(extractor.parameters()).device
    tokens, labels = [], []
    for image, mask in FolderScenes(root, split):
        height, width = (side // patch_size * patch_size for side in mask.shape)
        pixels = torch.from_numpy(image[:height, :width]).permute(2, 0, 1)[None]
        tokens.append(extractor.tokens(prepare(pixels.to(device)))[-1][0, 1:].cpu())
        classes = torch.from_numpy(mask[:height, :width])
        labels.append(majority_labels(classes, patch_size, num_classes))
    return torch.cat(tokens), torch.cat(labels)


def count_classes(root: str | Path) -> int:
    """Count the classes of both splits by their highest number.

    Raises:
        DataError: See :func:`read_patches`.
    """
    return highest_class(FolderScenes(root, split) for split in SPLITS) + 1


def highest_class(splits: Iterable[Scenes]) -> int:
    """Find the highest class in all label maps; -1 if nothing is labeled."""
    masks = (mask for scenes in splits for _, mask in scenes)
    return max(int(mask[mask != IGNORED].max(initial=-1)) for mask in masks)


def _labeled(tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    known = labels != IGNORED
    return tokens[known], labels[known]


def segmentation_metrics(confusion: Tensor) -> dict[str, float]:
    """Compute ``miou``, over the classes that the truth has, and ``accuracy``, in percent.

    Args:
        confusion: Counts (C, C), float; rows are the truth.
    """
    right, truth = confusion.diag(), confusion.sum(dim=1)
    union = truth + confusion.sum(dim=0) - right
    there = truth > 0
    miou = 100 * (right[there] / union[there]).mean()
    return dict(miou=float(miou), accuracy=float(100 * right.sum() / truth.sum()))
