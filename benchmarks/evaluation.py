# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Evaluation of features, here and in the published code.

``python -m benchmarks.evaluation --reference PATH`` classifies random features by 10, 20, 100 and
200 neighbors; with ``--protocol logistic`` by logistic regression, beside cyanure, the published
solver, if that is installed. ``--share 1`` has ImageNet's numbers: 1,281,167 and 50,000 images.
With ``--protocol davis`` labels are carried through a video of ``--frames``; with ``--protocol
retrieval`` a database is ranked and scored, ``--share 1`` being revisited Paris.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import measurement
from benchmarks.evaluation_tasks import TASKS, agreement
from benchmarks.published_training import import_published
from benchmarks.workload import device
from ibot_mm.functional.knn import weighted_knn
from ibot_mm.functional.logistic_regression import fit_logistic_regression

BANK, QUERIES, CLASSES, KS = 1_281_167, 50_000, 1000, (10, 20, 100, 200)
WEIGHT_DECAYS = (1.0, 0.1, 0.01)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    parser.add_argument('--channels', type=int, default=384, help='default: 384, of ViT-S')
    parser.add_argument(
        '--share', type=float, default=0.1, help='of the images of ImageNet; default: 0.1'
    )
    parser.add_argument('--protocol', choices=['knn', 'logistic', *TASKS], default='knn')
    parser.add_argument('--frames', type=int, default=20, help='of davis; default: %(default)s')
    parser.add_argument('--classes', type=int, default=CLASSES, help='default: %(default)s')
    parser.set_defaults(rounds=3)
    return parser.parse_args(arguments)


def make_features(number: int, channels: int, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Features around the centers of their classes, on the sphere, and labels."""
    labels = torch.randint(len(centers), (number,), device=centers.device)
    noise = torch.randn(number, channels, device=centers.device)
    return F.normalize(centers[labels] + noise, dim=1), labels


def ours(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, num_classes: int
) -> list[float]:
    """Top-1 accuracy (%) for each number of neighbors."""
    ranked = weighted_knn(bank, bank_labels, queries, KS, num_classes=num_classes)
    return [100 * (ranked[k][:, 0] == labels).float().mean().item() for k in KS]


def ours_logistic(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, num_classes: int
) -> list[float]:
    """Top-1 accuracy (%) for each weight decay."""
    weight, accuracies = None, []
    for weight_decay in WEIGHT_DECAYS:
        weight = fit_logistic_regression(
            bank, bank_labels, num_classes, weight_decay, weight
        ).weight
        accuracies.append(100 * ((queries @ weight).argmax(1) == labels).float().mean().item())
    return accuracies


def cyanure_logistic(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, num_classes: int
) -> list[float]:
    """Fit the same by the published solver with the published settings."""
    from cyanure.estimators import Classifier

    accuracies = []
    for weight_decay in WEIGHT_DECAYS:
        solver = Classifier(
            loss='multiclass-logistic',
            penalty='l2',
            fit_intercept=False,
            tol=1e-3,
            solver='catalyst-miso',
            random_state=0,
            max_iter=100,
            verbose=False,
            lambda_1=weight_decay,
            duality_gap_interval=10,
            n_threads=torch.get_num_threads(),
        )
        solver.fit(bank.numpy(), bank_labels.numpy())
        accuracies.append(100 * float((solver.predict(queries.numpy()) == labels.numpy()).mean()))
    return accuracies


def published(
    classify: Callable,
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    labels: Tensor,
    num_classes: int,
) -> list[float]:
    """Vote by the published function, which searches anew for each number."""
    features = bank, bank_labels, queries, labels
    return [classify(*features, k, 0.07, device() == 'cuda', num_classes)[0] for k in KS]


def take_turns(
    runs: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Measure all sides in turns; return seconds, and what each side gave last."""
    given: dict[str, Any] = {}

    def seconds(name: str, run: Callable[[], Any]) -> list[float]:
        start = time.perf_counter()
        given[name] = run()  # numbers: the device is done
        return [time.perf_counter() - start]

    sides = {name: partial(seconds, name, run) for name, run in runs.items()}
    return measurement.alternate(sides, rounds), given


def measure_task(args: argparse.Namespace) -> dict[str, Any]:
    """Measure a task and report, with the share of equal results."""
    measured, given = take_turns(TASKS[args.protocol](args), args.rounds)
    settings = vars(args) | dict(device=device())
    if args.reference:
        settings['agreement'] = agreement(given)
        print(f'equal results: {100 * settings["agreement"]:.3f} %')
    return measurement.report(f'{args.protocol} evaluation', 's', measured, settings, args.json)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.protocol in TASKS:
        return measure_task(args)
    centers = F.normalize(torch.randn(args.classes, args.channels, device=device()), dim=1) * 8
    bank = make_features(round(BANK * args.share), args.channels, centers)
    queries = make_features(round(QUERIES * args.share), args.channels, centers)
    features = *bank, *queries
    if args.protocol == 'logistic':
        runs = {measurement.OURS: partial(ours_logistic, *features, args.classes)}
        if find_spec('cyanure'):
            runs[measurement.PUBLISHED] = partial(cyanure_logistic, *features, args.classes)
    else:
        runs = {measurement.OURS: partial(ours, *features, args.classes)}
        if args.reference:
            knn = import_published(args.reference, 'evaluation.eval_knn').knn_classifier
            runs[measurement.PUBLISHED] = partial(published, knn, *features, args.classes)
    measured, accuracy = take_turns(runs, args.rounds)
    settings = vars(args) | dict(device=device(), accuracy=accuracy)
    settings |= dict(ks=KS) if args.protocol == 'knn' else dict(weight_decays=WEIGHT_DECAYS)
    for name, values in accuracy.items():
        print(f'{name}: top-1 {", ".join(f"{value:.2f}" for value in values)} %')
    return measurement.report(f'{args.protocol} evaluation', 's', measured, settings, args.json)


if __name__ == '__main__':
    main()
