# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A training step of linear probing: 45 learning rates, one, and the published loop over 45.

``python -m benchmarks.linear_sweep --reference PATH`` measures configs/cls/linear_vits16_100e_in1k
on batches of noise: frozen ViT-S/16, features of 1536 channels, heads, optimizer. Workers augment
images beside it.
"""

import argparse
import contextlib
import io
import statistics
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from benchmarks import measurement
from benchmarks.published_training import import_published
from benchmarks.workload import MEAN, STD, Timer, device
from ibot_mm.functional.linear_sweep import LEARNING_RATES

CONFIG = Path(__file__).parents[1] / 'configs/cls/linear_vits16_100e_in1k.py'
SINGLE = 'one learning rate'


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    parser.add_argument('--batch-size', type=int, default=128, help='default: 128, of one GPU')
    parser.add_argument('--image-size', type=int, default=224, help='pixels; default: 224')
    parser.add_argument('--classes', type=int, default=1000, help='default: %(default)s')
    parser.add_argument('--steps', type=int, default=1, help='steps in a turn; default: 1')
    parser.add_argument(
        '--processor-time',
        action='store_true',
        help='count the time of the processor only: fair beside other busy processes',
    )
    parser.set_defaults(rounds=3)
    args = parser.parse_args(arguments)
    if args.processor_time and (args.threads != 1 or device() != 'cpu'):
        parser.error('--processor-time is for --threads 1 on a CPU.')
    return args


class OurProbing:
    """The config's classifier and optimizer, with all of its learning rates or some.

    Args:
        settings: The command line.
        images: uint8, (B, 3, H, W).
        labels: Shape (B,).
        learning_rates: Of the sweep.
    """

    def __init__(
        self,
        settings: argparse.Namespace,
        images: Tensor,
        labels: Tensor,
        learning_rates: Sequence[float],
    ) -> None:
        cfg = Config.fromfile(CONFIG)
        init_default_scope('mmpretrain')
        cfg.model.backbone.backbone.update(init_cfg=None, img_size=settings.image_size)
        cfg.model.head.update(num_classes=settings.classes, learning_rates=learning_rates)
        cfg.model.data_preprocessor.num_classes = settings.classes
        self.settings = settings
        self.model: Any = MODELS.build(cfg.model).to(device()).train()
        self.optim_wrapper = build_optim_wrapper(self.model, cfg.optim_wrapper)
        samples = [DataSample().set_gt_label(label) for label in labels]
        self.batch = dict(inputs=images, data_samples=samples)

    def run(self) -> list[float]:
        """Train for the steps of a turn; returns the seconds of each."""
        timer = Timer([self.batch], self.settings.steps, self.settings.processor_time)
        for batch in timer:
            self.model.train_step(batch, self.optim_wrapper)
        return timer.seconds


class PublishedProbing:
    """The published loop over 45 linear classifiers with an optimizer each.

    Args:
        settings: The command line.
        images: uint8, BGR, (B, 3, H, W).
        labels: Shape (B,).
    """

    def __init__(self, settings: argparse.Namespace, images: Tensor, labels: Tensor) -> None:
        module = import_published(settings.reference, 'evaluation.eval_linear_multi')
        self.train, self.settings = module.train, settings
        self.model = module.models.vit_small(patch_size=16, num_classes=0).to(device()).eval()
        self.permutes = [(rate, 0, 'sgd') for rate in LEARNING_RATES]
        self.heads = nn.ModuleList(
            module.LinearClassifier(4 * 384, num_labels=settings.classes).to(device())
            for _ in self.permutes
        )
        self.optimizers = [
            torch.optim.SGD(head.parameters(), 4 * rate, momentum=0.9)
            for head, (rate, _, _) in zip(self.heads, self.permutes)
        ]
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        self.batch = (images.flip(1).float() - mean) / std, labels

    def run(self) -> list[float]:
        """Train for the steps of a turn; returns the seconds of each."""
        timer = Timer([self.batch], self.settings.steps, self.settings.processor_time)
        with contextlib.redirect_stdout(io.StringIO()):
            self.train(self.model, self.heads, self.optimizers, timer, 0, 4, 0, self.permutes)
        return timer.seconds


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    shape = (args.batch_size, 3, args.image_size, args.image_size)
    images = torch.randint(256, shape, dtype=torch.uint8)
    labels = torch.randint(args.classes, (args.batch_size,))
    ours = partial(OurProbing, args, images, labels)
    sides = {measurement.OURS: ours(LEARNING_RATES).run, SINGLE: ours(LEARNING_RATES[:1]).run}
    if args.reference:
        sides[measurement.PUBLISHED] = PublishedProbing(args, images, labels).run
    measured = measurement.alternate(sides, args.rounds)
    ratios = [all_ / one for all_, one in zip(measured[measurement.OURS], measured[SINGLE])]
    settings = vars(args) | dict(device=device(), over_one=ratios)
    title = 'A step of linear probing, 45 learning rates'
    result = measurement.report(title, 's', measured, settings, args.json)
    print(
        f'45 learning rates take {statistics.median(ratios):.2f} times as long as one '
        f'({min(ratios):.2f} to {max(ratios):.2f})'
    )
    return result


if __name__ == '__main__':
    main()
