# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A classifier for tasks: a linear probe on frozen features, or the head of a checkpoint."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.logging import print_log
from mmpretrain.datasets.categories import IMAGENET_CATEGORIES
from torch import Tensor

from .features import FeatureExtractor
from .frozen_splits import FrozenSplits
from .protocols.linear import fit_sweep, sweep_accuracies
from .protocols.measurement import Options


@dataclass(frozen=True)
class Classifier:
    """What tasks classify by.

    Args:
        logits: Prepared images (B, 3, H, W) to logits (B, C).
        classes: Names of the classes, in the order of the logits; for ImageNet WordNet's ids.
        image_size: Side of the test view in pixels.
        key: What logits depend on, in short, under which predictions are kept. Defaults to '', not
            known.
    """

    logits: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]
    image_size: int
    key: str = ''


def linear_classifier(
    backbone: Any,
    splits: FrozenSplits,
    classes: Sequence[str],
    image_size: int,
    options: Options,
) -> Classifier:
    """Fit a linear probe to the training features, or find it in the working folder.

    Of all learning rates the best on the held-out images is taken, as published. The first process
    fits, all read the probe from ``work_dir/probes``.

    Args:
        backbone: With ``last_blocks``.
        splits: Of its features.
        classes: Names of the classes.
        image_size: Side of the view that the features are of.
        options: Settings of linear probing.
    """
    parts = (options.learning_rates, options.epochs, options.batch_size, options.seed)
    text = json.dumps([splits.key, splits.linear.as_dict(), list(classes), *parts])
    name = f'linear-{hashlib.sha256(text.encode()).hexdigest()[:16]}.pth'
    path = Path(options.work_dir) / 'probes' / name
    if is_main_process() and not (splits.key and path.is_file()):
        probe = _fit(splits, options) | dict(classes=list(classes), image_size=image_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix('.tmp')
        torch.save(probe, temporary)
        temporary.replace(path)
    barrier()
    probe = torch.load(path, map_location=options.device, weights_only=True)
    print_log(
        f'classifier: a linear probe, lr={probe["lr"]:g}, top-1 {probe["top1"]:.1f} on the '
        f'held-out images it was chosen by, {path}',
        logger='current',
    )
    extractor = FeatureExtractor(backbone, splits.linear)
    weight, bias = (probe[name].to(options.device) for name in ('weight', 'bias'))

    def logits(images: Tensor) -> Tensor:
        return torch.nn.functional.linear(extractor(images).to(weight), weight, bias)

    return Classifier(logits, tuple(classes), image_size, path.stem if splits.key else '')


def _fit(splits: FrozenSplits, options: Options) -> dict[str, Any]:
    train, held_out = splits.features(splits.linear)
    sweep = fit_sweep(train, splits.train_labels, splits.num_classes, options)
    accuracies = sweep_accuracies(sweep, held_out, splits.held_out_labels, options)[:, 0]
    best = int(accuracies.argmax())
    rows = slice(best * splits.num_classes, (best + 1) * splits.num_classes)
    return dict(
        weight=sweep.weight[rows].detach().cpu().clone(),
        bias=sweep.bias[rows].detach().cpu().clone(),
        lr=options.learning_rates[best],
        top1=float(accuracies[best]),
    )


def imagenet_classes(number: int, names: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the names of a head's classes; for ImageNet-1K WordNet's ids, as folders have them.

    Args:
        number: Outputs of the head.
        names: That the checkpoint has. Defaults to None.

    Returns:
        ``names``; the ids in their usual order where these are mmpretrain's words for ImageNet's
        classes ('tench, Tinca tinca'), or 1000 outputs have no names.

    Raises:
        ValueError: If nothing tells the classes.
        ImportError: If timm, which has the ids, is not installed.
    """
    given = tuple(names or ())
    if len(given) == number and given[0] != IMAGENET_CATEGORIES[0]:
        return given
    if number != len(IMAGENET_CATEGORIES):
        raise ValueError(
            f'the classes of the {number} outputs are not known: the checkpoint does not name '
            f'them ({len(given)} names). Give the checkpoint without its config and --data '
            'ROOT, for a linear probe'
        )
    try:
        from timm.data import ImageNetInfo
    except ImportError as error:
        raise ImportError(
            'the ids of the classes of ImageNet come from timm: pip install timm'
        ) from error
    return tuple(ImageNetInfo('imagenet-1k').label_names())
