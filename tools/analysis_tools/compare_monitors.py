# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Compare what was monitored with what labels say, over the checkpoints of ablations' trainings.

For each metric: Spearman's rank correlation within trainings (mean and deviation over them) and
across the last checkpoints of all, and how many points are lost if the monitor chooses the
checkpoint. The sign of a choice is that of its correlation in the same trainings.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ibot_mm.ablation import METRICS, compare_monitors, measure_checkpoints, read_plan
from ibot_mm.evaluation import write_results


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='of tools/ablate.py, --out')
    parser.add_argument('--arms', nargs='+', help='default: all')
    parser.add_argument('--out', type=Path, help='JSON to write; default: FOLDER/monitors.json')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    plan = read_plan(args.folder)
    if plan is None:
        raise SystemExit(f'{args.folder} is not the folder of an ablation (tools/ablate.py --out)')
    if unknown := [name for name in args.arms or () if name not in plan['keys']]:
        raise SystemExit(f'no arm {unknown[0]}: there are {", ".join(plan["keys"])}')
    arms = args.arms or plan['keys']
    folders = [path for arm in arms for path in sorted((args.folder / arm).glob('seed_*'))]
    done = [path for path in folders if (path / 'result.json').is_file()]
    if not done:
        raise SystemExit(f'{args.folder} does not have a finished training of {", ".join(arms)}')
    runs = {f'{path.parent.name}/{path.name}': measure_checkpoints(path) for path in done}
    console, results = Console(), {}
    for metric, title in METRICS.items():
        try:
            found = compare_monitors(runs, metric)
        except ValueError as error:
            print(f'{title}: {error}')
            continue
        table = Table('monitor', 'within', 'across', 'choose the', 'points lost', title=title)
        for row in found:
            within = '' if row.within is None else f'{row.within.mean:+.2f}'
            within += '' if row.within is None or row.within.std is None else (
                f' ± {row.within.std:.2f}'
            )  # fmt: skip
            across = '' if row.across is None else f'{row.across:+.2f}'
            loss = '' if row.loss is None else f'{row.loss:.1f}'
            table.add_row(row.monitor, within, across, row.rule, loss)
        console.print(table)
        results[metric] = [asdict(row) for row in found]
    path = args.out or args.folder / 'monitors.json'
    write_results(path, dict(trainings=list(runs), metrics=results))
    print(f'{len(runs)} trainings: {path}')


if __name__ == '__main__':
    main()
