# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What the online probe adds to a step of pre-training.

``python -m benchmarks.online_probe`` measures a step of ViT-S/16 and, in turns with it, what
:class:`ibot_mm.OnlineProbeHook` does after it, with 1000 classes and its own learning rates.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.structures import DataSample

from benchmarks import measurement, workload
from benchmarks.training import OurTraining
from ibot_mm.engine.hooks import OnlineProbeHook

CLASSES = 1000


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    measurement.add_arguments(parser)
    workload.add_arguments(parser)
    parser.set_defaults(rounds=3, steps=1)
    args = parser.parse_args(arguments)
    args.processor_time = args.threads == 1 and workload.device() == 'cpu'
    return args


class Probing:
    """The hook after a step, with tokens of noise in place of the teacher's.

    Args:
        training: Whose steps it follows.
    """

    def __init__(self, training: OurTraining) -> None:
        self.runner, self.settings = training.runner, training.settings
        self.hook = OnlineProbeHook()
        self.hook.classes = tuple(map(str, range(CLASSES)))
        self.hook._label = lambda sample: int(sample.gt_label)
        number = self.settings.batch_size
        shape = 2 * number, 1, workload.NETWORKS[self.settings.arch].channels
        self.tokens = torch.randn(shape, device=workload.device())
        labels = torch.randint(CLASSES, (number,))
        self.batch = dict(data_samples=[DataSample().set_gt_label(label) for label in labels])

    def run(self) -> list[float]:
        """Learn from ten batches; returns the seconds of each."""
        clock = time.process_time if self.settings.processor_time else time.perf_counter
        seconds = []
        for _ in range(10):
            start = clock()
            self.hook._watch(self.tokens)
            self.hook.after_train_iter(self.runner, 0, self.batch)
            if workload.device() == 'cuda':
                torch.cuda.synchronize()
            seconds.append(clock() - start)
        return seconds


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and report."""
    args = parse_args(arguments)
    warnings.filterwarnings('ignore')
    if args.threads:
        torch.set_num_threads(args.threads)
    training = OurTraining(workload.Workload(args))
    sides = {'step': training.run, 'probe': Probing(training).run}
    measured = measurement.alternate(sides, args.rounds)
    shares = [probe / step for step, probe in zip(measured['step'], measured['probe'])]
    settings = vars(args) | dict(device=workload.device(), share=shares)
    result = measurement.report('Online probe', 's', measured, settings, args.json)
    print(f'the probe adds {statistics.median(shares):.2%} to a step')
    return result


if __name__ == '__main__':
    main()
