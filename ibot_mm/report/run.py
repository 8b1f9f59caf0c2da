# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a work directory tells of its training, finished or not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ibot_mm.diagnosis import diagnose, knn_curve
from ibot_mm.engine.checkpointing import list_checkpoints
from ibot_mm.visualization import find_scalars, read_curves
from ibot_mm.visualization.health import draw_health

from .base import nearest_base
from .results import find_results

VERSIONS = ('PyTorch', 'TorchVision', 'MMEngine')


@dataclass
class Run:
    """A training.

    Args:
        folder: Its work directory.
        facts: Name -> value, for the table of what was trained.
        base: Config of the project that it is nearest to.
        delta: Key -> values of the base and of the run.
        verdict: Of its health, or why there is none.
        findings: Evidence and advice.
        figures: Title -> PNG.
        metrics: Validated quantity -> its last and its best value; the largest is the best.
        evaluations: Contents of ``results.json`` files below the folder, by their folder.
        checkpoint: The newest, if there is one.
    """

    folder: Path
    facts: dict[str, str]
    base: str
    delta: dict[str, tuple[Any, Any]]
    verdict: str
    findings: list[tuple[str, str]] = field(default_factory=list)
    figures: dict[str, bytes] = field(default_factory=dict)
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    checkpoint: Path | None = None


def read_run(folder: str | Path) -> Run:
    """Read logs, config, evaluations and pictures of a work directory.

    Args:
        folder: Of ``tools/train.py`` or ``ibot-mm pretrain``; the training may still go on, or
            have died.

    Returns:
        All that was found; what is not there is left out.

    Raises:
        FileNotFoundError: If there are no logs or no config.
    """
    folder = Path(folder)
    curves, unit = read_curves(find_scalars(folder))
    cfg = _config(folder)
    base, delta = nearest_base(cfg)
    checkpoints = list_checkpoints(folder)
    run = Run(folder, _facts(folder, cfg, curves, unit), base, delta, '')
    run.checkpoint = checkpoints[0] if checkpoints else None
    try:
        found = diagnose(folder)
    except ValueError as error:  # not a pre-training
        run.verdict = f'not judged: {error}'
    else:
        run.verdict = found.verdict
        run.findings = [(finding.evidence, finding.advice) for finding in found.findings]
        figure, drawn = draw_health(found.curves | dict(knn=knn_curve(found.curves)), ''), BytesIO()
        figure.savefig(drawn, dpi=110)
        run.figures['Curves'] = drawn.getvalue()
    run.metrics = {
        name: (curve[-1][1], max(value for _, value in curve))
        for name, curve in curves.items()
        if '/' in name and not name.startswith('monitor/')
    } | {n: (c[-1][1], max(v for _, v in c)) for n, c in curves.items() if n in ('mIoU', 'aAcc')}
    run.evaluations = find_results(folder)
    for path in sorted(folder.rglob('*.png')):
        if path.name != 'health.png':
            run.figures[path.relative_to(folder).with_suffix('').as_posix()] = path.read_bytes()
    return run


def _config(folder: Path) -> Config:
    written = sorted(folder.glob('*/vis_data/config.py'))
    files = written or sorted(folder.glob('*.py'))
    if not files:
        raise FileNotFoundError(f'{folder} has no config, as a training writes one')
    return Config.fromfile(files[-1])


def _facts(
    folder: Path, cfg: Config, curves: Mapping[str, Sequence[tuple[float, float]]], unit: str
) -> dict[str, str]:
    data = cfg.train_dataloader.dataset
    log = _log(folder)
    length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')
    position = max((curve[-1][0] for curve in curves.values()), default=0.0)
    times = [value for _, value in curves.get('time', ())]
    iterations = max((value for _, value in curves.get('iter', ())), default=0.0)
    seconds = iterations * sum(times) / len(times) if times else 0.0
    processes = int(_first(r'GPU number: (\d+)', log) or 1)
    on_gpu = _first(r'CUDA available: (\w+)', log) == 'True'
    facts = dict(
        images=f'{data.get("data_root", "")} {data.get("data_prefix", "")}'.strip(),
        batch=f'{cfg.train_dataloader.batch_size} x {processes}',
        length=f'{length} {unit}s, {min(position / length, 1):.0%} done' if length else 'unknown',
        hours=f'{seconds / 3600:.2f} in steps, without evaluations',
    )
    if on_gpu:
        facts['GPU-hours'] = f'{processes * seconds / 3600:.1f}'
    facts['device'] = _first(r'^\s*GPU [\d,]+: (.+)$', log) or 'CPU'
    facts['energy'] = 'not measured'
    facts['Python'] = _first(r'^\s*Python: (\S+)', log) or 'unknown'
    for name in VERSIONS:
        if value := _first(rf'^\s*{re.escape(name)}: (.+)$', log):
            facts[name] = value
    return facts


def _log(folder: Path) -> str:
    logs = sorted(folder.glob('*/*.log'))
    return logs[-1].read_text(errors='replace')[:20_000] if logs else ''


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None
