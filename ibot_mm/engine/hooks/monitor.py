# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Measure targets and features of a training, without labels."""

from typing import Any

import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from ibot_mm.engine.hooks.unwrap import unwrap_model
from ibot_mm.functional import monitors
from ibot_mm.functional.ranges import check_ranges
from ibot_mm.functional.shards import local_parts, sum_over_shards
from ibot_mm.registry import HOOKS

LEAST_FEATURES = 8  # for a spectrum


@HOOKS.register_module()
class MonitorHook(Hook):
    """Logs what tells a healthy training from a collapsing one.

    Every ``interval`` iterations, of a sample of that step's global crops in the main process:

    ========================================  ====================================================
    ``cls_entropy``, ``patch_entropy``        of the targets, share of ln K: 1 is uniform
    ``cls_divergence``, ``patch_divergence``  KL of the mean target to uniform, nats
    ``cls_prototypes``, ``patch_prototypes``  how many the targets share, 1 to K
    ``cls_rank``, ``patch_rank``              effective rank of the teacher's features (RankMe)
    ``cls_slope``, ``patch_slope``            fall of their spectrum (alpha-ReQ)
    ``dense_score``                           separation of clusters of patches (DSE)
    ``teacher_step``                          mean change of the teacher's weights since the last
                                              measurement, as a share of their mean size
    ========================================  ====================================================

    Formulas and sources are in :mod:`ibot_mm.functional.monitors`. ``agreement`` is logged by the
    head. Targets that no loss reads are left out. Ranks depend on the size of the sample; scores
    compare checkpoints of one training, or trainings that differ little: docs/health.md says what
    is known of each.

    After each validation the means since the last one are among its metrics, with the prefix
    ``monitor/``, so that ``CheckpointHook(save_best='monitor/...')`` can choose by them.

    Args:
        interval (int): Iterations between measurements. Defaults to 100.
        num_features (int): [CLS] tokens, and patches, of a sample. Defaults to 256.
        num_images (int): Images whose patches are clustered. Defaults to 8.

    Raises:
        ValueError: If a number is out of range.
    """

    priority = 'NORMAL'

    def __init__(self, interval: int = 100, num_features: int = 256, num_images: int = 8) -> None:
        numbers = dict(interval=interval, num_images=num_images)
        check_ranges(
            type(self).__name__,
            {'int [1, inf)': numbers, 'int [8, inf)': dict(num_features=num_features)},
        )
        self.interval = interval
        self.num_features = num_features
        self.num_images = num_images
        self.values: dict[str, float] = {}  # of the last measurement
        self._since_validation: list[dict[str, float]] = []
        self._is_due = False
        self._weights: Tensor | None = None  # of the teacher, at the last measurement

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the teacher."""
        model = unwrap_model(runner, 'watch_teacher', type(self).__name__)
        model.unwatch_teacher(self._watch)
        model.watch_teacher(self._watch)
        self._model = model

    def after_train(self, runner: Runner) -> None:
        """Stop to watch it."""
        self._model.unwatch_teacher(self._watch)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """See whether it is time."""
        self._is_due = is_main_process() and self.is_time(runner)
        self.values = {}

    def is_time(self, runner: Runner) -> bool:
        """Whether this iteration is measured, the same in all processes."""
        return (runner.iter + 1) % self.interval == 0

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Log what was measured."""
        if not self.is_time(runner):
            return
        step = self._teacher_step()  # of all processes, which may share the weights
        if not self.values:
            return
        self.values |= step
        self._since_validation.append(self.values)
        for name, value in self.values.items():
            runner.message_hub.update_scalar(f'train/{name}', value)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Add the means since the last validation to its metrics, in all processes."""
        measured, self._since_validation = self._since_validation, []
        names = sorted({name for values in measured for name in values})
        means = {}
        for name in names:
            of_name = [values[name] for values in measured if name in values]
            means[f'monitor/{name}'] = sum(of_name) / len(of_name)
        shared = [means]
        broadcast_object_list(shared)
        for name, mean in shared[0].items():
            runner.message_hub.update_scalar(f'val/{name}', mean)
            if metrics is not None:
                metrics[name] = mean

    @torch.no_grad()
    def _watch(self, tokens: Tensor, cls_logits: Tensor, patch_logits: Tensor) -> None:
        """Measure the step under way."""
        if not self._is_due:
            return
        cls_logits = _spread(cls_logits, self.num_features)
        patch_logits = _spread(patch_logits, self.num_features)
        head = self._model.head
        cls, patch = head.targets(cls_logits, patch_logits)
        features = _spread(tokens[:, 0], self.num_features)
        patches = _spread(tokens[:, 1:].flatten(0, 1), self.num_features)
        values = dict(_of_features('cls', features), **_of_features('patch', patches))
        values |= _of_targets('cls', cls) if head.cls_weight else {}
        values |= _of_targets('patch', patch) if head.patch_weight else {}
        images = tokens[: self.num_images, 1:].float().cpu()
        num_clusters = min(24, images[:, :, 0].numel() // 4)
        if images.isfinite().all() and images.shape[1] >= 3 and num_clusters > 1:
            generator = torch.Generator().manual_seed(0)
            values['dense_score'] = monitors.dense_score(images, num_clusters, generator=generator)
        self.values = {name: float(value) for name, value in values.items()}

    def _teacher_step(self) -> dict[str, float]:
        """Compare the vectors among the teacher's weights, biases and norms: they are few."""
        vectors = [p.detach() for p in self._model.teacher.parameters() if p.ndim == 1]
        weights = torch.cat(local_parts(vectors)).float()
        before, self._weights = self._weights, weights.clone()
        if before is None:
            return {}
        squares = torch.stack([(weights - before).square().sum(), weights.square().sum()])
        step, size = sum_over_shards(squares, vectors[0]).sqrt()
        return dict(teacher_step=float(step / size.clamp(1e-12)))


def _spread(rows: Tensor, number: int) -> Tensor:
    """Take at most so many rows, at equal distances."""
    return rows[:: -(-len(rows) // number)] if len(rows) > number else rows


def _of_targets(kind: str, targets: Tensor) -> dict[str, Tensor]:
    if not len(targets):  # nothing is masked
        return {}
    return {
        f'{kind}_entropy': monitors.target_entropy(targets),
        f'{kind}_divergence': monitors.mean_target_divergence(targets),
        f'{kind}_prototypes': monitors.prototypes_in_use(targets),
    }


def _of_features(kind: str, features: Tensor) -> dict[str, Tensor]:
    features = features.float().cpu()  # not all devices have float64; a small matrix
    if min(features.shape) < LEAST_FEATURES or not features.isfinite().all():
        return {}
    return {
        f'{kind}_rank': monitors.effective_rank(features),
        f'{kind}_slope': monitors.spectrum_slope(features),
    }
