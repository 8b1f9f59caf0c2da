# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What state a training is in, by its logs: a verdict, the evidence, and what to change."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from mmengine.config import Config

from .compatibility import load_config
from .engine.alarms import ALARMS, KINDS, LEAST_HISTORY, MOST_ENTROPY, History
from .engine.roll_back import read_roll_backs
from .visualization.curves import Curve, find_scalars, read_curves
from .visualization.health import draw_health
from .visualization.style import save_figure

MUCH_WAITING = 0.2
FALL = 3.0  # points of k-NN accuracy
RISE = 1.0  # the same, in the last quarter of a training
FINISHED_RATE = 0.05  # of the highest learning rate
HALF = 0.5
LEAST_AGREEMENT = 0.02  # more than at the start

COLLAPSING = 'collapsing'
NOTHING_LEARNED = 'nothing learned yet'
STARVED = 'starved by loading'
TOO_EARLY = 'schedule finished too early'
HEALTHY = 'healthy'


@dataclass(frozen=True)
class Finding:
    """One thing that was seen.

    Args:
        verdict: What it speaks for, one of this module's constants.
        evidence: With numbers.
        advice: What to change; empty if nothing.
    """

    verdict: str
    evidence: str
    advice: str = ''


@dataclass(frozen=True)
class Diagnosis:
    """The state of a training.

    Args:
        findings: All, the gravest first. The first one's verdict is the training's.
        curves: Everything logged, by share of the training from 0 to 1.
        done: Share of the training that is done.
    """

    findings: list[Finding]
    curves: dict[str, Curve]
    done: float

    @property
    def verdict(self) -> str:
        """Verdict of the gravest finding."""
        return self.findings[0].verdict


def diagnose(work_dir: str | Path) -> Diagnosis:
    """Read logs and config of a training, finished or not, and judge them.

    Args:
        work_dir: Of a run of ``tools/train.py``: ``*/vis_data/scalars.json`` and the config.

    Returns:
        Findings in the order collapsing, nothing learned yet, starved by loading, schedule finished
        too early, healthy; more than one may hold.

    Raises:
        FileNotFoundError: If logs or config are missing.
        ValueError: If nothing was logged yet, or the run is not a pre-training.
    """
    work_dir = Path(work_dir)
    curves, unit = read_curves(find_scalars(work_dir))
    if not curves.get('loss_cls'):
        raise ValueError(
            f'{work_dir} has no loss_cls in its log: it is not a pre-training of this package, or '
            'nothing was logged yet (default_hooks.logger.interval).'
        )
    cfg = _config(work_dir)
    length = float(cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters'))
    if unit == 'iteration' and cfg.train_cfg.get('max_epochs'):
        length = curves['loss_cls'][-1][0]
    curves = {name: [(x / length, y) for x, y in curve] for name, curve in curves.items()}
    if 'cls_entropy' not in curves and 'teacher_entropy' in curves:
        uniform = math.log(cfg.model.head.get('num_prototypes', 8192))
        curves['cls_entropy'] = [(x, y / uniform) for x, y in curves['teacher_entropy']]
    done = curves['loss_cls'][-1][0]
    findings = [finding for judge in _JUDGES for finding in judge(curves, done)]
    findings += _rolled_back(work_dir)
    if not findings:
        findings = [_healthy(curves)]
    order = (COLLAPSING, NOTHING_LEARNED, STARVED, TOO_EARLY, HEALTHY)
    return Diagnosis(sorted(findings, key=lambda f: order.index(f.verdict)), curves, done)


def print_diagnosis(work_dir: str | Path, out: str | Path | None = None) -> None:
    """Print the verdict, the evidence and the advice, and save a figure.

    Args:
        work_dir: See :func:`diagnose`.
        out: PNG to write. Defaults to None, ``health.png`` in the work dir.

    Raises:
        FileNotFoundError, ValueError: See :func:`diagnose`.
    """
    work_dir = Path(work_dir)
    found = diagnose(work_dir)
    print(f'{work_dir}: {found.verdict} ({found.done:.0%} of the training is done)')
    for finding in found.findings:
        print(f'  - {finding.evidence}')
        if finding.advice:
            print(f'    {finding.advice}')
    path = Path(out) if out is not None else work_dir / 'health.png'
    curves = found.curves | dict(knn=knn_curve(found.curves))
    print(save_figure(draw_health(curves, f'{work_dir.name}: {found.verdict}'), path))


def _config(work_dir: Path) -> Config:
    files = sorted(work_dir.glob('*.py'), key=lambda path: path.stat().st_mtime)
    if not files:
        raise FileNotFoundError(f'{work_dir} has no config (*.py), as tools/train.py leaves one.')
    return load_config(files[-1])


def knn_curve(curves: Mapping[str, Curve]) -> Curve:
    """Return the top-1 accuracy of k-NN with the largest k that was validated."""
    names = [name for name in curves if name.startswith('knn/top1_k')]
    return curves[max(names, key=lambda name: int(name.rsplit('k', 1)[1]))] if names else []


def _collapsing(curves: Mapping[str, Curve], done: float) -> Iterator[Finding]:
    values = {name: curve[-1][1] for name, curve in curves.items()}
    if not math.isfinite(values['loss_cls']):
        yield Finding(
            COLLAPSING,
            'the last loss is not finite',
            'lower optim_wrapper.optimizer.lr, clip harder, or train in bf16 or float32',
        )
    history = History(
        ranks={kind: max(y for _, y in curves.get(f'{kind}_rank', [(0, 0)])) for kind in KINDS},
        norms=[y for _, y in curves.get('grad_norm', [])[:-LEAST_HISTORY]],
    )
    for name, judge in ALARMS.items():
        message = judge(values, history) if name != 'uniform' else None
        if message and not (name == 'teacher_frozen' and done > 0.99):
            evidence, _, advice = message.partition(': ')
            yield Finding(COLLAPSING, evidence, advice)
    knn = [y for _, y in knn_curve(curves)]
    if knn and max(knn) - knn[-1] > FALL:
        yield Finding(
            COLLAPSING,
            f'k-NN fell from {max(knn):.1f} to {knn[-1]:.1f}, while the loss is '
            f'{values["loss_cls"]:.3g} after {_start(curves["loss_cls"]):.3g}',
            'take the checkpoint of the best k-NN (default_hooks.checkpoint.save_best), lower the '
            'learning rate, or slow the teacher down',
        )


def _nothing_learned(curves: Mapping[str, Curve], done: float) -> Iterator[Finding]:
    entropy = curves.get('cls_entropy', [])
    late = [y for x, y in entropy if x > 0.8 * done]
    if late and mean(late) > MOST_ENTROPY:
        yield Finding(
            NOTHING_LEARNED,
            f'targets are uniform, entropy {mean(late):.1%} of ln K: the loss stays at ln K',
            'lower the teacher temperatures, or take configs/_base_/schedules/small_data.py; '
            'docs/small_data.md says why',
        )
    agreement = curves.get('agreement', [])
    late = [y for x, y in agreement if x > 0.8 * done]
    if late and mean(late) < _start(agreement) + LEAST_AGREEMENT:
        yield Finding(
            NOTHING_LEARNED,
            f'student and teacher choose the same prototype for {mean(late):.0%} of the images, at '
            f'the start for {_start(agreement):.0%}',
            'train on; after a tenth of the training see docs/small_data.md',
        )
    knn = [y for _, y in knn_curve(curves)]
    if len(knn) > 1 and max(knn) - knn[0] < RISE and done > HALF:
        yield Finding(
            NOTHING_LEARNED,
            f'k-NN is {knn[-1]:.1f}, at its first validation it was {knn[0]:.1f}',
            'train for longer, or see docs/small_data.md',
        )


def _starved(curves: Mapping[str, Curve], done: float) -> Iterator[Finding]:
    waiting = [y for x, y in curves.get('waiting', []) if x > HALF * done]
    if waiting and median(waiting) > MUCH_WAITING:
        yield Finding(
            STARVED,
            f'{median(waiting):.0%} of the time is waiting for data',
            'raise train_dataloader.num_workers, or put the images into shards (docs/data.md)',
        )


def _too_early(curves: Mapping[str, Curve], done: float) -> Iterator[Finding]:
    knn, rates = knn_curve(curves), [y for _, y in curves.get('lr', [])]
    if not knn or not rates or rates[-1] > FINISHED_RATE * max(rates):
        return
    earlier = [y for x, y in knn if x <= 0.75 * knn[-1][0]]
    if earlier and knn[-1][1] - max(earlier) > RISE and knn[-1][1] == max(y for _, y in knn):
        yield Finding(
            TOO_EARLY,
            f'k-NN still rose from {max(earlier):.1f} to {knn[-1][1]:.1f} in the last quarter, '
            'and the learning rate is at its end',
            'raise train_cfg.max_epochs: schedules follow',
        )


def _rolled_back(work_dir: Path) -> Iterator[Finding]:
    for entry in read_roll_backs(work_dir):
        yield Finding(
            COLLAPSING,
            f'alarm {entry["alarm"]} at iteration {entry["iteration"]}: rolled back to '
            f'{entry["checkpoint"] or "the start"}',
        )


def _healthy(curves: Mapping[str, Curve]) -> Finding:
    parts = []
    if entropy := curves.get('cls_entropy'):
        parts.append(f'entropy of the targets {entropy[-1][1]:.0%} of ln K')
    if agreement := curves.get('agreement'):
        parts.append(f'agreement {agreement[-1][1]:.0%} after {_start(agreement):.0%}')
    if knn := knn_curve(curves):
        parts.append(f'k-NN {knn[-1][1]:.1f} after {knn[0][1]:.1f}')
    return Finding(HEALTHY, ', '.join(parts) or 'no alarm')


def _start(curve: Curve) -> float:
    return curve[0][1]


_JUDGES: tuple[Callable[[Mapping[str, Curve], float], Iterator[Finding]], ...] = (
    _collapsing,
    _nothing_learned,
    _starved,
    _too_early,
)
