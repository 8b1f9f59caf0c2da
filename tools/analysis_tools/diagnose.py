# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Say whether a training is healthy, by its logs, and what to change."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ibot_mm.diagnosis import diagnose, knn_curve
from ibot_mm.visualization.health import draw_health


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dir', type=Path, help='work directory of a pre-training')
    parser.add_argument('--out', type=Path, help='PNG to write; default: WORK_DIR/health.png')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        found = diagnose(args.work_dir)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    print(f'{args.work_dir}: {found.verdict} ({found.done:.0%} of the training is done)')
    for finding in found.findings:
        print(f'  - {finding.evidence}')
        if finding.advice:
            print(f'    {finding.advice}')
    path = args.out or args.work_dir / 'health.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    curves = found.curves | dict(knn=knn_curve(found.curves))
    draw_health(curves, f'{args.work_dir.name}: {found.verdict}').savefig(path, dpi=130)
    print(f'{path}')


if __name__ == '__main__':
    main()
