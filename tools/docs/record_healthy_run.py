# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Record the curves of a run of the demo, which diagnose.py draws behind those of any training.

python tools/train.py configs/pretrain/ibot_vit_demo.py
python tools/docs/record_healthy_run.py work_dirs/ibot_vit_demo
"""

import json
import sys
from pathlib import Path

from ibot_mm.diagnosis import HEALTHY, diagnose, knn_curve
from ibot_mm.visualization.curves import Curve
from ibot_mm.visualization.health import HEALTHY_RUN, PANELS

POINTS = 60  # of a curve


def thin(curve: Curve) -> Curve:
    """Take points at equal distances, with four digits."""
    step = -(-len(curve) // POINTS)
    return [(float(f'{x:.4g}'), float(f'{y:.4g}')) for x, y in curve[::step]]


def main(work_dir: str) -> None:
    found = diagnose(Path(work_dir))
    if found.verdict != HEALTHY or found.done < 1:
        raise SystemExit(f'{work_dir} is {found.verdict}, {found.done:.0%} done')
    curves = found.curves | dict(knn=knn_curve(found.curves))
    names = [name for panel in PANELS.values() for name in panel if name in curves]
    HEALTHY_RUN.write_text(json.dumps({name: thin(curves[name]) for name in names}) + '\n')
    print(f'wrote {HEALTHY_RUN}')


if __name__ == '__main__':
    main(*sys.argv[1:])
