# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a protocol is told, and what it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ibot_mm.functional.linear_sweep import LEARNING_RATES


@dataclass(frozen=True)
class Options:
    """Settings of all protocols; the defaults are the published ones.

    Args:
        ks: Numbers of neighbors.
        temperature: Of their votes.
        weight_decays: λ of logistic regression.
        learning_rates: Of linear probing, for 256 images a step.
        epochs: Of linear probing.
        batch_size: Of linear probing.
        shares: Of the labels, for few labels.
        seed: Of everything random.
        device: Where to compute.
        work_dir: Folder of what tasks write, and of features that they keep.
        images_per_batch: Images of one size that tasks give the network at once.
        num_workers: Processes that load images for tasks.
        tasks: Task -> its own settings, such as ``dict(davis=dict(topk=10))``.
    """

    ks: tuple[int, ...] = (10, 20, 100, 200)
    temperature: float = 0.07
    weight_decays: tuple[float, ...] = (0.01, 0.1, 1.0)
    learning_rates: tuple[float, ...] = LEARNING_RATES
    epochs: int = 100
    batch_size: int = 1024
    shares: tuple[float, ...] = (0.01, 0.1)
    seed: int = 0
    device: str = 'cpu'
    work_dir: str = 'work_dirs/evaluation'
    images_per_batch: int = 128
    num_workers: int = 4
    tasks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measurement:
    """Metrics under one setting.

    Args:
        setting: What was varied, such as ``dict(k=20)``. In tasks text says what was measured, and
            makes a row of the table; numbers what was tuned.
        metrics: By name; the first decides which setting is best.
    """

    setting: dict[str, Any]
    metrics: dict[str, float]

    @property
    def main(self) -> float:
        """The first metric."""
        return next(iter(self.metrics.values()))


def best_of(measurements: Sequence[Measurement]) -> Measurement:
    """Return the best setting, chosen on the very images it is measured on, as published."""
    return max(measurements, key=lambda measurement: measurement.main)
