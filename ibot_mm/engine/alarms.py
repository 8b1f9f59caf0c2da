# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is wrong with a training, by the numbers of MonitorHook, and what to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

MOST_ENTROPY, LEAST_ENTROPY = 0.95, 0.005  # share of ln K
LEAST_PROTOTYPES = 1.5
LEAST_RANK = 0.25  # of the highest
MOST_GROWTH = 10  # of the gradient's norm, to its median
LEAST_HISTORY = 5  # measurements of the norm before it is judged

NOT_FINITE = 'not_finite'
KINDS = ('cls', 'patch')


class TrainingAlarm(RuntimeError):
    """Ends a training that is not healthy.

    Args:
        name: Of the alarm, a key of :data:`ALARMS` or ``'not_finite'``.
        step: Iterations that were done.
        since: First iteration that was measured as bad.
        message: What was seen and what to change.
    """

    def __init__(self, name: str, step: int, since: int, message: str) -> None:
        super().__init__(message)
        self.name, self.step, self.since = name, step, since


class RollBack(TrainingAlarm):
    """Asks who started the training to go on from the last healthy checkpoint."""


@dataclass
class History:
    """What is remembered of earlier measurements.

    Args:
        ranks: Highest effective rank by kind of token.
        norms: Median norm of the gradient between measurements.
    """

    ranks: dict[str, float] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)

    def add(self, values: Mapping[str, float]) -> None:
        """Remember a measurement."""
        for kind in KINDS:
            rank = values.get(f'{kind}_rank', 0.0)
            self.ranks[kind] = max(self.ranks.get(kind, 0.0), rank)
        if 'grad_norm' in values:
            self.norms.append(values['grad_norm'])


Values = Mapping[str, float]


def _uniform(values: Values, history: History) -> str | None:
    for kind in KINDS:
        share = values.get(f'{kind}_entropy', 0.0)
        if share > MOST_ENTROPY:
            return (
                f'all {kind} targets are nearly the same, entropy {share:.1%} of ln K: lower '
                f'{"" if kind == "cls" else "patch_"}temperature of default_hooks.temperature, or '
                'take configs/_base_/schedules/small_data.py'
            )
    return None


def _one_prototype(values: Values, history: History) -> str | None:
    for kind in KINDS:
        number = values.get(f'{kind}_prototypes', LEAST_PROTOTYPES)
        if number < LEAST_PROTOTYPES:
            return (
                f'the {kind} targets use {number:.2f} prototypes: the center lags behind the '
                f'teacher, lower {"" if kind == "cls" else "patch_"}center_momentum of model.head, '
                "or set centering='sinkhorn'"
            )
    return None


def _entropy_gone(values: Values, history: History) -> str | None:
    for kind in KINDS:
        share = values.get(f'{kind}_entropy', 1.0)
        if share < LEAST_ENTROPY:
            return (
                f'the {kind} targets are one prototype each, entropy {share:.2%} of ln K: raise '
                f'{"" if kind == "cls" else "patch_"}temperature of default_hooks.temperature'
            )
    return None


def _rank_falling(values: Values, history: History) -> str | None:
    for kind in KINDS:
        highest, rank = history.ranks.get(kind, 0.0), values.get(f'{kind}_rank')
        if rank is not None and rank < LEAST_RANK * highest:
            return (
                f'the effective rank of {kind} features fell from {highest:.1f} to {rank:.1f}: '
                'features collapse; lower optim_wrapper.optimizer.lr, raise the teacher momentum, '
                'or add regularizers=dict(koleo=dict(type="ibot_mm.KoLeoLoss")) to the model'
            )
    return None


def _teacher_frozen(values: Values, history: History) -> str | None:
    if values.get('teacher_step', 1.0) == 0:
        return (
            'the teacher did not change at all: its momentum is 1 (default_hooks.teacher), or its '
            'hook is missing'
        )
    return None


def _gradient_growing(values: Values, history: History) -> str | None:
    norm = values.get('grad_norm')
    if norm is None or len(history.norms) < LEAST_HISTORY:
        return None
    usual = median(history.norms)
    if norm > MOST_GROWTH * usual:
        return (
            f'the gradient norm is {norm:.3g}, its median was {usual:.3g}: lower '
            'optim_wrapper.optimizer.lr, warm it up for longer, or clip harder'
        )
    return None


COLLAPSES = ('uniform', 'one_prototype', 'entropy_gone', 'rank_falling')
ALARMS: dict[str, Callable[[Values, History], str | None]] = dict(
    uniform=_uniform,
    one_prototype=_one_prototype,
    entropy_gone=_entropy_gone,
    rank_falling=_rank_falling,
    teacher_frozen=_teacher_frozen,
    gradient_growing=_gradient_growing,
)
