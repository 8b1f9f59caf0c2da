# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""k-NN classification of features, here and in the published code.

``python -m benchmarks.evaluation --reference PATH`` classifies random features by 10, 20, 100 and
200 neighbors. ``--share 1`` has ImageNet's numbers: 1,281,167 and 50,000 images.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import measurement
from benchmarks.published_training import import_published
from benchmarks.workload import device
from ibot_mm.functional.knn import weighted_knn

BANK, QUERIES, CLASSES, KS = 1_281_167, 50_000, 1000, (10, 20, 100, 200)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    parser.add_argument('--channels', type=int, default=384, help='default: 384, of ViT-S')
    parser.add_argument(
        '--share', type=float, default=0.1, help='of the images of ImageNet; default: 0.1'
    )
    parser.set_defaults(rounds=3)
    return parser.parse_args(arguments)


def make_features(number: int, channels: int, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Features around the centers of their classes, on the sphere, and labels."""
    labels = torch.randint(len(centers), (number,), device=centers.device)
    noise = torch.randn(number, channels, device=centers.device)
    return F.normalize(centers[labels] + noise, dim=1), labels


def ours(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> list[float]:
    """Top-1 accuracy (%) for each number of neighbors."""
    ranked = weighted_knn(bank, bank_labels, queries, KS, num_classes=CLASSES)
    return [100 * (ranked[k][:, 0] == labels).float().mean().item() for k in KS]


def published(
    classify: Callable, bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor
) -> list[float]:
    """The same by the published function, which searches anew for each number."""
    features = bank, bank_labels, queries, labels
    return [classify(*features, k, 0.07, device() == 'cuda', CLASSES)[0] for k in KS]


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    centers = F.normalize(torch.randn(CLASSES, args.channels, device=device()), dim=1) * 8
    bank = make_features(round(BANK * args.share), args.channels, centers)
    queries = make_features(round(QUERIES * args.share), args.channels, centers)
    runs = {measurement.OURS: partial(ours, *bank, *queries)}
    if args.reference:
        knn = import_published(args.reference, 'evaluation.eval_knn').knn_classifier
        runs[measurement.PUBLISHED] = partial(published, knn, *bank, *queries)
    accuracy: dict[str, list[float]] = {}

    def seconds(name: str, run: Callable[[], list[float]]) -> list[float]:
        start = time.perf_counter()
        accuracy[name] = run()  # numbers: the device is done
        return [time.perf_counter() - start]

    sides = {name: partial(seconds, name, run) for name, run in runs.items()}
    measured = measurement.alternate(sides, args.rounds)
    settings = vars(args) | dict(device=device(), ks=KS, accuracy=accuracy)
    for name, values in accuracy.items():
        print(f'{name}: top-1 {", ".join(f"{value:.2f}" for value in values)} %')
    return measurement.report('k-NN evaluation', 's', measured, settings, args.json)


if __name__ == '__main__':
    main()
