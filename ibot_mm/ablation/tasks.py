# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What there is to do: the commands of every training and evaluation, and which are done.

``DIR/ARM/config.py`` is the arm's whole config, ``DIR/ARM/preparation`` what is made before,
``DIR/ARM/seed_N`` the work directory of a training with its ``result.json``.
"""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .arms import Ablation, Arm, fill_prepared
from .check import PLAN, read_plan

RESULT = 'result.json'


@dataclass(frozen=True)
class Task:
    """Commands that are run one after the other.

    Args:
        name: Such as 'online/seed_0'.
        commands: Each a list of words.
        log: File of what they print.
        needs: Name of the task that must be done before. Defaults to None.
    """

    name: str
    commands: list[list[str]]
    log: Path
    needs: str | None = None


def plan_tasks(
    ablation: Ablation, seeds: Sequence[int], out: str | Path, tools: Path
) -> list[Task]:
    """Write the arms' configs, and list what is not done yet, preparations first.

    Args:
        ablation: Checked by :func:`~ibot_mm.ablation.check.check_ablation`.
        seeds: Of the trainings.
        out: Folder of the ablation.
        tools: Folder of ``train.py`` and ``fit_clusters.py``.
    """
    out = Path(out)
    preparations: list[Task] = []
    trainings: list[Task] = []
    for arm in ablation.arms.values():
        folder = out / arm.name
        file = prepared_file(ablation, arm, folder)
        content = arm.cfg.to_dict() if file is None else fill_prepared(arm.cfg.to_dict(), file)
        config = _write_config(folder / 'config.py', content)
        runs = [
            _training(arm.name, folder, config, seed, tools)
            for seed in seeds
            if read_result(folder / f'seed_{seed}', ablation.key(arm)) is None
        ]
        if file is not None and not file.is_file() and runs:
            preparations.append(_preparation(ablation, arm, file, config, tools))
            needs = preparations[-1].name
            runs = [Task(run.name, run.commands, run.log, needs) for run in runs]
        trainings += runs
    return preparations + trainings


def write_plan(ablation: Ablation, out: str | Path) -> None:
    """Write what the folder's ablation is; arms of earlier calls stay in it."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    before = read_plan(out) or {}
    plan = dict(
        config=str(ablation.path),
        evaluation=ablation.evaluation,
        keys=before.get('keys', {}) | {n: ablation.key(arm) for n, arm in ablation.arms.items()},
    )
    temporary = out / f'{PLAN}.tmp'
    temporary.write_text(json.dumps(plan, indent=2) + '\n')
    temporary.replace(out / PLAN)


def read_result(work_dir: Path, key: str) -> dict[str, Any] | None:
    """Read the result of a run, None if there is none of these settings."""
    path = work_dir / RESULT
    result = json.loads(path.read_text()) if path.is_file() else None
    return result if result is not None and result['key'] == key else None


def prepared_file(ablation: Ablation, arm: Arm, folder: Path) -> Path | None:
    """Return where an arm's preparation leaves its file, None if it has none."""
    if arm.prepare is None:
        return None
    if arm.prepare['type'] == 'fit_clusters':
        return folder / 'preparation/clusters.pth'
    length = ablation.base.train_cfg
    unit = 'epoch' if 'max_epochs' in length else 'iter'
    return folder / f'preparation/{unit}_{length[f"max_{unit}s"]}.pth'


def train_command(config: Path, work_dir: Path, seed: int, tools: Path) -> list[str]:
    """Return the command of a training that goes on from where it was interrupted."""
    script = [sys.executable, str(tools / 'train.py'), str(config), '--work-dir', str(work_dir)]
    return [*script, '--resume', '--cfg-options', f'randomness.seed={seed}']


def describe(task: Task) -> str:
    """Return a task's commands as lines of a shell."""
    return '\n'.join(shlex.join(command) for command in task.commands)


def _training(arm: str, folder: Path, config: Path, seed: int, tools: Path) -> Task:
    work_dir = folder / f'seed_{seed}'
    measure = [sys.executable, '-m', 'ibot_mm.ablation', str(work_dir)]
    commands = [train_command(config, work_dir, seed, tools), measure]
    return Task(f'{arm}/seed_{seed}', commands, work_dir / 'output.log')


def _preparation(ablation: Ablation, arm: Arm, file: Path, config: Path, tools: Path) -> Task:
    settings = dict(arm.prepare or {})
    kind, seed = settings.pop('type'), settings.pop('seed', 0)
    if kind == 'pretrain':
        base = _write_config(file.parent / 'config.py', ablation.base.to_dict())
        command = train_command(base, file.parent, seed, tools)
    else:
        script = [sys.executable, str(tools / 'fit_clusters.py'), str(config)]
        command = [*script, '--out', str(file), '--seed', str(seed)]
        if 'num_patches' in settings:
            command += ['--patches', str(settings['num_patches'])]
    return Task(f'{arm.name}/preparation', [command], file.parent / 'output.log')


def _write_config(path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Config(content).dump(path)
    return path
