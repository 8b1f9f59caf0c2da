# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Linear classifiers of many settings on the same features, as one head."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from ibot_mm.functional.linear_sweep import LEARNING_RATES, sweep_cross_entropy, sweep_scores
from ibot_mm.registry import MODELS

OPTIMIZERS = ('sgd', 'lars')


@MODELS.register_module()
class LinearSweepHead(BaseModule):
    """All classifiers of a sweep over learning rates, trained in one run (paper, section 4.1).

    There is a classifier of each combination of learning rate, weight decay and optimizer. Their
    weights are one tensor and their scores one product of matrices; no classifier touches the
    gradient of another. :class:`ibot_mm.SweepConstructor` gives each its own setting,
    :class:`ibot_mm.SweepAccuracy` finds the best.

    Once ``best_head`` is set, which :class:`ibot_mm.KeepBestHeadHook` does after each validation,
    the head also is the best classifier alone: to ``forward``, and to whoever reads ``pred_score``.

    Args:
        num_classes (int): Number of classes C.
        in_channels (int): Channels D of a feature.
        learning_rates (Sequence[float]): For 256 images a step. Defaults to the published 45.
        weight_decays (Sequence[float]): Defaults to (0.0,); the published wide sweep has
            (0.0, 1e-6).
        optimizers (Sequence[str]): Of 'sgd' and 'lars'. Defaults to ('sgd',); the published wide
            sweep has both.
        init_cfg (dict | list, optional): Defaults to None, weights of deviation 0.01 and no bias.

    Attributes:
        sweep (list[dict]): ``lr``, ``weight_decay`` and ``lars`` of each of the H classifiers.
        best_head (Tensor): Index of the best, -1 before a validation, shape ().

    Raises:
        ValueError: If there are fewer than two classes, a list is empty, or a number or name in it
            is not usable.
    """

    best_head: Tensor

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        learning_rates: Sequence[float] = LEARNING_RATES,
        weight_decays: Sequence[float] = (0.0,),
        optimizers: Sequence[str] = ('sgd',),
        init_cfg: dict | list | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_classes < 2:
            raise ValueError(
                f'A classifier needs at least 2 classes, got num_classes={num_classes}.'
            )
        if not learning_rates or min(learning_rates) <= 0:
            raise ValueError(f'learning_rates must be numbers above 0, got {learning_rates}.')
        if not weight_decays or min(weight_decays) < 0:
            raise ValueError(f'weight_decays must be numbers from 0 on, got {weight_decays}.')
        if not optimizers or set(optimizers) - set(OPTIMIZERS):
            raise ValueError(f'optimizers must be of {OPTIMIZERS}, got {optimizers}.')
        self.num_classes = num_classes
        self.sweep = [
            dict(lr=float(lr), weight_decay=float(decay), lars=optimizer == 'lars')
            for optimizer, decay, lr in itertools.product(optimizers, weight_decays, learning_rates)
        ]
        self.weight = nn.Parameter(torch.empty(len(self.sweep), num_classes, in_channels))
        self.bias = nn.Parameter(torch.zeros(len(self.sweep), num_classes))
        self.register_buffer('best_head', torch.tensor(-1))
        nn.init.normal_(self.weight, std=0.01)

    def scores(self, features: Tensor) -> Tensor:
        """Compute the scores of all classifiers for features (B, D), shape (B, H, C)."""
        return sweep_scores(features, self.weight, self.bias)

    def forward(self, feats: Any) -> Tensor:
        """Compute the scores (B, C) of the best classifier, (B, H, C) of all while none is known.

        Args:
            feats: Features (B, D), or a tuple whose last they are.
        """
        features = _features(feats)
        if self.best_head < 0:
            return self.scores(features)
        return F.linear(features, self.weight[self.best_head], self.bias[self.best_head])

    def loss(self, feats: Any, data_samples: Sequence[DataSample]) -> dict[str, Tensor]:
        """Sum of the classifiers' cross-entropies, and the lowest of them for the log.

        The sum gives each classifier the gradient of its own.
        """
        losses = self.losses(feats, data_samples)
        return dict(loss=losses.sum(), lowest_cross_entropy=losses.detach().min())

    def losses(self, feats: Any, data_samples: Sequence[DataSample]) -> Tensor:
        """Compute the cross-entropy of each classifier, a mean over the images, shape (H,)."""
        labels = torch.cat([sample.gt_label for sample in data_samples])
        return sweep_cross_entropy(self.scores(_features(feats)), labels).mean(0)

    def predict(
        self, feats: Any, data_samples: Sequence[DataSample] | None = None
    ) -> list[DataSample]:
        """Put what a metric needs of all classifiers into the data samples.

        Args:
            feats: As of :meth:`forward`.
            data_samples: With ``gt_label``. Defaults to None, new ones.

        Returns:
            Samples with ``sweep_ranked`` (H, 5 or C), the classes of the highest scores, best
            first; ``sweep_loss`` (H,) where there is a label; ``sweep``, the settings; and once
            ``best_head`` is set ``pred_score`` and ``pred_label`` of the best.
        """
        scores = self.scores(_features(feats))
        samples = list(data_samples) if data_samples else [DataSample() for _ in scores]
        ranked = scores.topk(min(5, self.num_classes), dim=2).indices
        for sample, of_sample, classes in zip(samples, scores, ranked, strict=True):
            sample.set_field(classes, 'sweep_ranked')
            sample.set_field(self.sweep, 'sweep')
            if 'gt_label' in sample:
                loss = sweep_cross_entropy(of_sample[None], sample.gt_label)[0]
                sample.set_field(loss, 'sweep_loss')
            if self.best_head >= 0:
                best = of_sample[self.best_head].softmax(0)
                sample.set_pred_score(best).set_pred_label(best.argmax(0, keepdim=True))
        return samples


def _features(feats: Any) -> Tensor:
    return feats[-1] if isinstance(feats, (tuple, list)) else feats
