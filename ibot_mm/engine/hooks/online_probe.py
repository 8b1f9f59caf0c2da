# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A linear probe that is trained beside the pre-training."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.functional.linear_sweep import LinearSweep
from ibot_mm.registry import HOOKS

from .unwrap import unwrap_model

KEY = 'online_probe'


@HOOKS.register_module()
class OnlineProbeHook(Hook):
    """Trains linear classifiers on the teacher's [CLS] tokens of the global crops.

    The tokens are those that the losses need anyway, without gradient, and the classifiers have
    gradients of their own: the student's weights are the same to the bit with this hook and
    without. No random numbers are used, weights start from zero.

    Logged are ``probe_top1``, the accuracy on the crops of this step before it is learned from, and
    after each validation ``probe/top1`` on the held-out images, in percent, of the best rate. In
    several processes the images that a sampler repeats count twice.

    Labels are those of the training images where they are read (``with_label=True``), otherwise
    the folders below ``data_prefix`` are the classes. Switch it on by one line:
    ``custom_hooks = [dict(type='ibot_mm.OnlineProbeHook')]``.

    Args:
        learning_rates (Sequence[float]): For 256 crops a step, constant.
            Defaults to (0.01, 0.1, 1.0).
        momentum (float): Defaults to 0.9.

    Raises:
        ValueError: If there is no learning rate above 0.
    """

    def __init__(
        self, learning_rates: Sequence[float] = (0.01, 0.1, 1.0), momentum: float = 0.9
    ) -> None:
        if not learning_rates or min(learning_rates) <= 0:
            raise ValueError(f'learning_rates must be numbers above 0, got {learning_rates}')
        self.learning_rates = tuple(learning_rates)
        self.momentum = momentum
        self.probe: LinearSweep | None = None
        self._state: dict[str, Tensor] | None = None  # of a checkpoint
        self._tokens: Tensor | None = None  # of this step
        self._hits = torch.zeros(1 + len(self.learning_rates))  # of a validation, images last

    def before_train(self, runner: Runner) -> None:
        """Find the classes and begin to watch the teacher.

        Raises:
            ValueError: If the training images have no labels, or other classes than the held-out
                ones.
        """
        self.classes, self._label = _labels(runner.train_dataloader.dataset)
        if runner.val_loop is not None:
            held_out = runner.val_dataloader.dataset.metainfo.get('classes')
            if held_out is not None and tuple(held_out) != self.classes:
                raise ValueError(
                    f'the training images have classes {self.classes[:4]} ... and the held-out '
                    f'ones {tuple(held_out)[:4]} ...: OnlineProbeHook needs the same in both'
                )
        unwrap_model(runner, 'watch_teacher', type(self).__name__).watch_teacher(self._watch)

    def after_train(self, runner: Runner) -> None:
        """Stop to watch the teacher."""
        unwrap_model(runner, 'watch_teacher', type(self).__name__).unwatch_teacher(self._watch)

    def _watch(self, tokens: Tensor, *logits: Tensor) -> None:
        self._tokens = (
            tokens[:, 0].detach().float().clone()
        )  # not all tokens of the network with it

    @torch.no_grad()
    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Learn from the crops of this step."""
        if self._tokens is None:
            return
        features, self._tokens = self._tokens.nan_to_num(0.0, 0.0, 0.0), None
        labels = torch.tensor([self._label(sample) for sample in data_batch['data_samples']])
        labels = labels.to(features.device, non_blocking=True)
        labels = labels.repeat(len(features) // len(labels))  # view-major
        probe = self._probe(features)
        hits = probe.scores(features).argmax(dim=2) == labels[:, None]  # (G * B, H)
        probe.step(features, labels, len(features) / 256, average=_average)
        runner.message_hub.update_scalar('train/probe_top1', 100 * hits.float().mean(0).max())

    def _probe(self, features: Tensor) -> LinearSweep:
        if self.probe is None:
            start = features.new_zeros(len(self.classes), features.shape[1])
            self.probe = LinearSweep(start, self.learning_rates, self.momentum)
            if self._state is not None:
                self.probe.load_state_dict(self._state)
                self._state = None
        return self.probe

    @torch.no_grad()
    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Classify the held-out images of a batch."""
        samples = [s for s in outputs or () if s.get('knn_split', 'query') == 'query']
        if self.probe is None or not samples:
            return
        features = torch.stack([sample.feature for sample in samples]).to(self.probe.weight)
        labels = torch.cat([sample.gt_label for sample in samples]).to(features.device)
        hits = (self.probe.scores(features).argmax(dim=2) == labels[:, None]).sum(dim=0)
        self._hits[:-1] += hits.cpu()
        self._hits[-1] += len(samples)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Log the accuracy."""
        hits, self._hits = self._hits, torch.zeros_like(self._hits)
        all_reduce(hits)
        if hits[-1] > 0:
            accuracy = float(100 * hits[:-1].max() / hits[-1])
            runner.message_hub.update_scalar('val/probe/top1', accuracy)
            if metrics is not None:
                metrics['probe/top1'] = accuracy

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the probe."""
        if self.probe is not None:
            checkpoint[KEY] = {n: t.cpu().clone() for n, t in self.probe.state_dict().items()}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Go on with the probe of a resumed training."""
        self._state = checkpoint.get(KEY)


def _average(gradient: Tensor) -> None:
    all_reduce(gradient, 'mean')


def _labels(dataset: Any) -> tuple[tuple[str, ...], Any]:
    """Classes of the training images, and a function from a data sample to its label."""
    while hasattr(dataset, 'dataset') or hasattr(dataset, 'datasets'):
        dataset = dataset.dataset if hasattr(dataset, 'dataset') else dataset.datasets[0]
    if dataset.get_data_info(0).get('gt_label') is not None:
        classes = tuple(dataset.metainfo.get('classes') or ())
        if not classes:
            classes = tuple(str(label) for label in range(1 + max(dataset.get_gt_labels())))
        return classes, lambda sample: int(sample.gt_label)
    root = getattr(dataset, 'img_prefix', '')
    classes = tuple(sorted(e.name for e in os.scandir(root) if e.is_dir())) if root else ()
    if len(classes) < 2:
        raise ValueError(
            f'OnlineProbeHook needs labels, and the training images of {root or "this data set"} '
            'are not in one folder per class: set with_label=True with an annotation file, or '
            'remove the hook from custom_hooks'
        )
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, lambda sample: numbers[os.path.relpath(sample.img_path, root).split(os.sep)[0]]
