# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The end of an ablation: tables, a figure, a Markdown report and a JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.table import Table

from ibot_mm.evaluation import write_results
from ibot_mm.visualization import save_ablation

from .arms import Ablation, Arm
from .check import num_images_seen
from .measure import METRICS, describe_training
from .statistics import paired_difference, summarize
from .tasks import prepared_file, read_result

REPORT, SUMMARY, FIGURE = 'report.md', 'report.json', 'report.png'
Results = dict[str, dict[int, dict[str, Any]]]  # arm -> seed -> result


def read_results(ablation: Ablation, out: str | Path) -> Results:
    """Read the results that are there, of all seeds."""
    found: Results = {}
    for name, arm in ablation.arms.items():
        key = ablation.key(arm)
        names = (f.name.removeprefix('seed_') for f in Path(out, name).glob('seed_*'))
        seeds = sorted(int(number) for number in names if number.isdigit())
        of_arm = {seed: read_result(Path(out, name, f'seed_{seed}'), key) for seed in seeds}
        found[name] = {seed: result for seed, result in of_arm.items() if result is not None}
    return found


def write_report(
    ablation: Ablation, out: str | Path, failed: Mapping[str, str], command: str
) -> Table | None:
    """Write ``report.md``, ``report.png`` and ``report.json`` of all that is finished.

    Args:
        ablation: With all its arms. Those that have not run yet are left out.
        out: Its folder.
        failed: Name -> reason of the tasks that failed.
        command: How the ablation was called.

    Returns:
        The table for the terminal, or None before the first result.
    """
    out = Path(out)
    results = read_results(ablation, out)
    tried = {name.split('/')[0] for name in failed}
    kept = {name: arm for name, arm in ablation.arms.items() if results[name] or name in tried}
    ablation, results = replace(ablation, arms=kept), {name: results[name] for name in kept}
    num_seeds = len({seed for of_arm in results.values() for seed in of_arm})
    shown = [
        m for m in METRICS if any(m in r['metrics'] for of in results.values() for r in of.values())
    ]
    if not shown:
        return None
    values = {metric: _values(results, metric) for metric in shown}
    collapsed = {name: _collapsed(of_arm) for name, of_arm in results.items()}
    titles = {METRICS[metric]: of_arms for metric, of_arms in values.items()}
    save_ablation(out / FIGURE, titles, {name for name, text in collapsed.items() if text})
    write_results(out / SUMMARY, _summary(ablation, results, values, failed, command))

    rows = _rows(ablation, values, collapsed, results)
    header = ['arm', 'seeds', *(METRICS[metric] for metric in shown)]
    differences = _difference_rows(ablation.reference, values)
    parts = [
        f'# {ablation.path.stem}: {num_seeds} seed{"s" if num_seeds > 1 else ""}',
        'Mean ± standard deviation over the seeds, in percent, of the teacher on frozen features. '
        'k-NN and linear probes take their best setting on the held-out images, as published, '
        'in each arm alike.',
        markdown(header, rows),
    ]
    if differences:
        parts += [
            f'## Difference to {ablation.reference}, over pairs of the same seed',
            "Mean and 95 % interval by Student's t. Each interval stands for itself: among many, "
            'some miss by chance.',
            markdown(['arm', *header[2:]], differences),
        ]
    parts += [f'![Every seed, mean and standard deviation]({FIGURE})']
    parts += ['## Arms', markdown(['arm', 'what it is'], _descriptions(ablation, out))]
    if any(collapsed.values()):
        parts += ['## Collapsed', _bullets({n: text for n, text in collapsed.items() if text})]
    if failed:
        parts += ['## Failed', _bullets(failed)]
    parts += ['## How', _bullets(_how(ablation, results, command))]
    (out / REPORT).write_text('\n\n'.join(parts) + '\n')

    table = Table(*header, title=f'{ablation.path.stem}, %')
    for row in rows:
        table.add_row(*row)
    return table


def _values(results: Results, metric: str) -> dict[str, dict[int, float]]:
    """Values of a metric: arm -> seed -> value."""
    return {
        name: {s: r['metrics'][metric] for s, r in of_arm.items() if metric in r['metrics']}
        for name, of_arm in results.items()
    }


def _collapsed(of_arm: Mapping[int, Mapping[str, Any]]) -> str:
    """Say which seeds have collapsed, how and since when; empty if none has."""
    found = {seed: r['collapse'] for seed, r in of_arm.items() if r['collapse']}
    if not found:
        return ''
    since = ', '.join(
        f'seed {seed} {collapse["kind"]} from {of_arm[seed]["unit"]} {collapse["epoch"]:g}'
        for seed, collapse in found.items()
    )
    return f'{len(found)} of {len(of_arm)} seeds: {since}'


def _rows(
    ablation: Ablation,
    values: Mapping[str, Mapping[str, Mapping[int, float]]],
    collapsed: Mapping[str, str],
    results: Results,
) -> list[list[str]]:
    rows = []
    for name in ablation.arms:
        title = f'{name} (collapsed)' if collapsed[name] else name
        cells = []
        for of_arms in values.values():
            numbers = list(of_arms[name].values())
            cells.append(str(summarize(numbers)) if numbers else '')
        rows.append([title, str(len(results[name])), *cells])
    return rows


def _difference_rows(
    reference: str | None, values: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> list[list[str]]:
    if reference is None:
        return []
    first = next(iter(values.values()))
    rows = []
    for name in first:
        if name == reference:
            continue
        found = [
            paired_difference(of_arms[name], of_arms[reference]) for of_arms in values.values()
        ]
        rows.append([name, *('' if d is None else str(d) for d in found)])
    return rows


def _descriptions(ablation: Ablation, out: Path) -> list[list[str]]:
    rows = []
    for name, arm in ablation.arms.items():
        text = arm.description or 'no description'
        if arm.prepare is not None:
            text += f' Before it, once for all seeds: {_preparation(ablation, arm, out / name)}.'
        rows.append([name, text])
    return rows


def _preparation(ablation: Ablation, arm: Arm, folder: Path) -> str:
    settings = dict(arm.prepare or {})
    kind = settings.pop('type')
    told = ', '.join(f'{key}={value}' for key, value in settings.items())
    file = prepared_file(ablation, arm, folder)
    if kind == 'fit_clusters':
        return f'k-means of patches, {told}'
    cost = f'{num_images_seen(ablation.base):,} images'
    if file is not None and file.is_file():
        told_by_log = describe_training(file.parent, ablation.base)
        cost = f'{told_by_log["images"]:,} images, {told_by_log["seconds"] / 60:.1f} minutes'
    return f'a pre-training by the base config, {told}, {cost}'


def _how(ablation: Ablation, results: Results, command: str) -> dict[str, str]:
    found = [result for of_arm in results.values() for result in of_arm.values()]
    versions = found[0]['versions']
    minutes = sum(result['seconds'] for result in found) / 60
    commits = sorted({str(result['commit']) for result in found})
    images = sorted({result['images'] for result in found})
    options = ', '.join(f'{key}={value}' for key, value in ablation.options.items())
    return dict(
        config=f'{ablation.path}, base {ablation.base_path}, options: {options or "none"}',
        command=f'`{command}`',
        commit=', '.join(commits),
        images=f'{" or ".join(f"{n:,}" for n in images)} seen by each training; planned are '
        f'{num_images_seen(ablation.base):,}',
        time=f'{minutes:.1f} minutes in the steps of {len(found)} trainings, without evaluations',
        versions=', '.join(f'{name} {version}' for name, version in versions.items()),
    )


def _summary(
    ablation: Ablation,
    results: Results,
    values: Mapping[str, Mapping[str, Mapping[int, float]]],
    failed: Mapping[str, str],
    command: str,
) -> dict[str, Any]:
    """Return all numbers of the report."""
    reference = ablation.reference
    arms: dict[str, Any] = {}
    for name, arm in ablation.arms.items():
        metrics = {}
        for metric, of_arms in values.items():
            numbers = list(of_arms[name].values())
            difference = None
            if reference not in (None, name):
                difference = paired_difference(of_arms[name], of_arms[str(reference)])
            metrics[metric] = dict(
                summary=asdict(summarize(numbers)) if numbers else None,
                difference=None if difference is None else asdict(difference),
            )
        runs = {str(seed): result for seed, result in results[name].items()}
        arms[name] = dict(
            description=arm.description, delta=arm.delta, prepare=arm.prepare,
            metrics=metrics, runs=runs,
        )  # fmt: skip
    return dict(
        config=str(ablation.path),
        base=str(ablation.base_path),
        options=ablation.options,
        command=command,
        reference=reference,
        images=num_images_seen(ablation.base),
        failed=dict(failed),
        arms=arms,
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Compose a table in Markdown."""
    lines = [header, ['---'] * len(header), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _bullets(items: Mapping[str, str]) -> str:
    return '\n'.join(f'- {name}: {text}' for name, text in items.items())
