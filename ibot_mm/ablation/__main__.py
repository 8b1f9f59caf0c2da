# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Measure trainings of an ablation: ``python -m ibot_mm.ablation DIR/ARM/seed_N``."""

import sys

from ibot_mm.ablation.measure import measure_run

if __name__ == '__main__':
    for work_dir in sys.argv[1:]:
        print(measure_run(work_dir)['metrics'])
