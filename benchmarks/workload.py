# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Settings and synthetic batches of a training step, the same for both sides."""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibot_mm.datasets import MaskGenerator


@dataclass(frozen=True)
class Network:
    """Sizes of a ViT and of its projection head."""

    channels: int
    layers: int
    heads: int
    patch_size: int = 16
    hidden_channels: int = 2048
    bottleneck_channels: int = 256


NETWORKS = dict(
    tiny=Network(192, 12, 3),
    small=Network(384, 12, 6),
    base=Network(768, 12, 12),
    large=Network(1024, 24, 16),
    demo=Network(96, 4, 3, patch_size=8, hidden_channels=256, bottleneck_channels=64),
)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that define a training step."""
    parser.add_argument(
        '--arch', choices=NETWORKS, default='small', help='ViT; demo: that of the demo'
    )
    parser.add_argument('--batch-size', type=int, default=8, help='images a step; default: 8')
    parser.add_argument('--global-crop-size', type=int, default=224, help='pixels; default: 224')
    parser.add_argument('--local-crop-size', type=int, default=96, help='pixels; default: 96')
    parser.add_argument('--local-crops', type=int, default=10, help='default: 10')
    parser.add_argument('--prototypes', type=int, default=8192, help='default: 8192')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16', 'float16'], default='float32')
    parser.add_argument('--steps', type=int, default=2, help='steps in a turn; default: 2')
    parser.add_argument('--compile', action='store_true', help='compile the backbones (ours)')
    parser.add_argument(
        '--checkpoint-activations', action='store_true', help='recompute activations (ours)'
    )
    parser.set_defaults(drop_path=0.1, clip=3.0, frozen_epochs=1, lr=1e-4, processor_time=False)


def device() -> str:
    """Where steps run."""
    return 'cuda' if torch.cuda.is_available() else 'cpu'


class Workload:
    """A few batches of noise with real masks, in the forms that either side's loader gives.

    Args:
        settings: Options of :func:`add_arguments`.
        number: Different batches; steps go round them. Defaults to 2.
    """

    def __init__(self, settings: argparse.Namespace, number: int = 2) -> None:
        self.settings = settings
        np.random.seed(0)
        torch.manual_seed(0)
        patch_size = NETWORKS[settings.arch].patch_size
        draw = MaskGenerator(patch_size=patch_size, ratio=[(0.0, 0.0), (0.3, 0.2)])
        blank = dict(img=[np.empty((settings.global_crop_size, settings.global_crop_size, 3))] * 2)
        self.batches: list[dict[str, Tensor]] = []
        for _ in range(number):
            masks = [draw.transform(dict(blank))['masks'] for _ in range(settings.batch_size)]
            batch = dict(
                global_crops=self._noise(2, settings.global_crop_size),
                masks=torch.from_numpy(np.stack(masks)),
            )
            if settings.local_crops:
                batch['local_crops'] = self._noise(settings.local_crops, settings.local_crop_size)
            self.batches.append(batch)

    def _noise(self, views: int, size: int) -> Tensor:
        shape = (self.settings.batch_size, views, 3, size, size)
        return torch.randint(256, shape, dtype=torch.uint8)

    def ours(self) -> list[dict[str, Any]]:
        """Batches as ``stack_samples`` gives them: uint8, one tensor for each kind of crop."""
        return [dict(inputs=dict(batch)) for batch in self.batches]

    def published(self) -> list[tuple[list[Tensor], Tensor, list[Tensor]]]:
        """Batches as the published loader gives them: lists of normalized crops and masks."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        batches = []
        for batch in self.batches:
            crops = [
                (crop.flip(1).float() - mean) / std  # RGB
                for name in ('global_crops', 'local_crops')
                if name in batch
                for crop in batch[name].unbind(1)
            ]
            labels = torch.arange(self.settings.batch_size)
            batches.append((crops, labels, list(batch['masks'].unbind(1))))
        return batches


class Timer:
    """A loader that measures how long its user waits for each batch and works on it.

    Args:
        batches: What to hand out, again from the start where it ends.
        steps: How often.
        processor_time: Whether to count the time of the processor for this process only, which
            leaves out waiting, instead of the time that passes. Defaults to False.
    """

    def __init__(self, batches: Iterable[Any], steps: int, processor_time: bool = False) -> None:
        self.batches, self.steps = batches, steps
        self.clock = time.process_time if processor_time else time.perf_counter
        self.dataset = batches  # mmengine looks for its classes
        self.batch_size, self.sampler = 0, None
        if hasattr(batches, 'batch_sampler'):  # a loader; batches of noise do not have one
            self.batch_sampler = batches.batch_sampler
        self.waits: list[float] = []
        self.seconds: list[float] = []

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Any]:
        """On a GPU, where steps overlap, each counts as the mean of all."""
        begin = end = self.clock()
        batches = iter(self.batches)
        for _ in range(self.steps):
            batch = next(batches, None)
            if batch is None:
                batches = iter(self.batches)
                batch = next(batches)
            start = self.clock()
            self.waits.append(start - end)
            yield batch
            end = self.clock()
            self.seconds.append(end - start)
        if device() == 'cuda':
            torch.cuda.synchronize()
            mean = (self.clock() - begin - sum(self.waits)) / self.steps
            self.seconds = [mean] * self.steps
