# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The tasks of an ablation as array jobs of Slurm, which the user submits."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from .tasks import Task, describe


def write_array_jobs(tasks: Sequence[Task], out: str | Path, jobs: int) -> list[str]:
    """Write the scripts of the preparations and of the trainings.

    Args:
        tasks: From :func:`~ibot_mm.ablation.tasks.plan_tasks`.
        out: Folder of the scripts.
        jobs: Tasks at once.

    Returns:
        The commands that submit them.
    """
    out = Path(out)
    first = [task for task in tasks if any(other.needs == task.name for other in tasks)]
    rest = [task for task in tasks if task not in first]
    if not rest:
        return []
    last = _write(out / 'trainings.sbatch', rest, jobs)
    if not first:
        return [f'sbatch {last}']
    before = _write(out / 'preparations.sbatch', first, jobs)
    return [
        f'job=$(sbatch --parsable {before})',
        # Trainings whose preparation failed end with an error that names the missing file.
        f'sbatch --dependency=afterany:$job {last}',
    ]


def _write(path: Path, tasks: Sequence[Task], jobs: int) -> str:
    cases = []
    for number, task in enumerate(tasks):
        cases += [f'{number})  # {task.name}', describe(task), ';;']
    logs = shlex.quote(str(path.with_suffix('')))
    lines = [
        '#!/usr/bin/env bash',
        f'#SBATCH --job-name={path.stem}',
        f'#SBATCH --array=0-{len(tasks) - 1}%{jobs}',
        f'#SBATCH --output={logs}_%a.log',
        '# Add what your cluster wants: --partition, --gres=gpu:1, --cpus-per-task, --time.',
        'set -e',
        'cd "$SLURM_SUBMIT_DIR"',
        'case "$SLURM_ARRAY_TASK_ID" in',
        *cases,
        'esac',
    ]
    path.write_text('\n'.join(lines) + '\n')
    return shlex.quote(str(path))
