# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What a work directory tells of its training, finished or not."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ibot_mm.checkpoint import Checkpoint, CheckpointError
from ibot_mm.diagnosis import diagnose, knn_curve
from ibot_mm.engine.checkpointing import list_checkpoints
from ibot_mm.visualization import find_scalars, read_curves
from ibot_mm.visualization.health import draw_health

from .base import nearest_base
from .commands import evaluation_command, training_command
from .energy import energy_estimate
from .origin import ALGORITHMS, UNKNOWN, start_of, training_facts
from .pictures import Figures, draw_pictures, find_figures, png_of
from .results import Table, find_comparisons, find_results
from .usage import Usage, usage_of

VERSIONS = ('PyTorch', 'TorchVision', 'MMEngine')
Curves = Mapping[str, Sequence[tuple[float, float]]]


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
        curves: PNG of its curves, if it is a pre-training.
        metrics: Validated quantity -> its last and its best value; the largest is the best.
        evaluations: Contents of ``results.json`` files below the folder, by their folder.
        comparisons: Tables of what was trained from its weights and from scratch, by their folder.
        seen: Title -> PNG of what the network sees.
        figures: Title -> PNG of what lies in the folder.
        commands: What gives the training and its numbers again.
        checkpoint: The newest, if there is one.
        usage: How its weights are used, if they are of a pre-training.
        missing: What is not on the page, and why.
    """

    folder: Path
    facts: dict[str, str]
    base: str
    delta: dict[str, tuple[Any, Any]]
    verdict: str = ''
    findings: list[tuple[str, str]] = field(default_factory=list)
    curves: bytes | None = None
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    evaluations: dict[str, dict[str, Any]] = field(default_factory=dict)
    comparisons: dict[str, Table] = field(default_factory=dict)
    seen: Figures = field(default_factory=dict)
    figures: Figures = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    checkpoint: Path | None = None
    usage: Usage | None = None
    missing: list[str] = field(default_factory=list)


def read_run(
    folder: str | Path, images: str | Path | None = None, with_pictures: bool = True
) -> Run:
    """Read logs, config, evaluations, pictures and the newest checkpoint of a work directory.

    Args:
        folder: Of ``tools/train.py`` or ``ibot-mm pretrain``; the training may still go on, or
            have died.
        images: Folder of images in which the network is shown. Defaults to None, those of the
            run's data.
        with_pictures: Whether to draw what the network sees. Defaults to True.

    Returns:
        All that was found.

    Raises:
        FileNotFoundError: If there are no logs or no config.
    """
    folder = Path(folder)
    curves, unit = read_curves(find_scalars(folder))
    path = _config(folder)
    cfg = Config.fromfile(path)
    is_pretraining = cfg.model.get('type') in ALGORITHMS
    base, delta = nearest_base(cfg)
    run = Run(folder, _facts(folder, cfg, curves, unit), base, delta)
    _judge(run)
    run.metrics = {
        name: (curve[-1][1], max(value for _, value in curve))
        for name, curve in curves.items()
        if name in ('mIoU', 'mAcc', 'aAcc') or ('/' in name and not name.startswith('monitor/'))
    }
    run.evaluations = find_results(folder)
    run.comparisons = find_comparisons(folder)
    run.figures, run.missing = find_figures(folder)
    run.commands = [training_command(path, folder)]
    run.commands += [evaluation_command(results) for results in run.evaluations.values()]
    run.checkpoint = next(iter(list_checkpoints(folder)), None)
    if run.checkpoint is not None and is_pretraining:
        try:
            _read_checkpoint(run, run.checkpoint)
        except CheckpointError as error:
            run.missing.append(f'how its weights are used: {error}')
        else:
            if with_pictures:
                run.seen, reasons = draw_pictures(run.checkpoint, path, cfg, images)
                run.missing += reasons
    return run


def _read_checkpoint(run: Run, path: Path) -> None:
    opened = Checkpoint.open(path)
    told = training_facts(opened)
    run.facts |= {name: told[name] for name in ('ibot-mm', 'commit of ibot-mm')}
    run.usage = usage_of(opened)


def _judge(run: Run) -> None:
    """Set verdict, findings and curves."""
    try:
        found = diagnose(run.folder)
    except ValueError as error:  # not a pre-training
        run.verdict = f'not judged: {error}'
        return
    run.verdict = found.verdict
    run.findings = [(finding.evidence, finding.advice) for finding in found.findings]
    run.curves = png_of(draw_health(found.curves | dict(knn=knn_curve(found.curves)), ''))


def _config(folder: Path) -> Path:
    files = sorted(folder.glob('*/vis_data/config.py')) or sorted(folder.glob('*.py'))
    if not files:
        raise FileNotFoundError(f'{folder} has no config, as a training writes one')
    return files[-1]


def _facts(folder: Path, cfg: Config, curves: Curves, unit: str) -> dict[str, str]:
    log = _log(folder)
    length = cfg.train_cfg.get('max_epochs') or cfg.train_cfg.get('max_iters')
    position = max((curve[-1][0] for curve in curves.values()), default=0.0)
    times = [value for _, value in curves.get('time', ())]
    iterations = max((value for _, value in curves.get('iter', ())), default=0.0)
    hours = iterations * sum(times) / len(times) / 3600 if times else 0.0
    processes = int(_first(r'GPU number: (\d+)', log) or 1)
    on_gpu = _first(r'CUDA available: (\w+)', log) == 'True'
    device = _first(r'^\s*GPU [\d,]+: (.+)$', log) if on_gpu else 'CPU'
    batch = cfg.train_dataloader.get('batch_size')
    facts = dict(
        images=_images(cfg) or UNKNOWN,
        batch=f'{batch} x {processes}' if batch else UNKNOWN,
        length=f'{length} {unit}s, {min(position / length, 1):.0%} done' if length else UNKNOWN,
        hours=f'{hours:.2f} in steps, without evaluations' if times else UNKNOWN,
        device=device or UNKNOWN,
    )
    if on_gpu and times:
        facts['GPU-hours'] = f'{processes * hours:.1f}'
        if energy := energy_estimate(device or '', processes * hours):
            facts['energy'] = energy
    facts['started from'] = start_of(cfg) or 'random weights'
    facts['Python'] = _first(r'^\s*Python: (\S+)', log) or UNKNOWN
    for name in VERSIONS:
        if value := _first(rf'^\s*{re.escape(name)}: (.+)$', log):
            facts[name] = value
    return facts


def _images(cfg: Config) -> str:
    data: Any = cfg.train_dataloader.get('dataset') or {}
    while 'dataset' in data:  # such as RepeatDataset's
        data = data['dataset']
    prefix = data.get('data_prefix', '')
    places = prefix.values() if isinstance(prefix, Mapping) else [prefix]
    return ' '.join(map(str, filter(None, [data.get('data_root'), *places])))


def _log(folder: Path) -> str:
    logs = sorted(folder.glob('*/*.log'))
    return logs[-1].read_text(errors='replace')[:20_000] if logs else ''


def _first(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else None
