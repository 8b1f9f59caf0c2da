# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
from pathlib import Path

from .application import advice


def report(
    *runs: Path,
    out: Path = Path('report.html'),
    images: Path | None = None,
    no_pictures: bool = False,
) -> None:
    """Write one page about trainings: config, health, evaluations, pictures, how to use them.

    Example: `ibot-mm report runs/first runs/second --out report.html`

    Args:
        runs: Work directories, finished or not; evaluations and pictures below them are shown.
        out: File to write, which needs no network.
        images: Folder of images in which the networks are shown. Default: of the run's data
        no_pictures: Do not draw what the networks see.
    """
    with advice():
        if not runs:
            raise ValueError('name at least one work directory')
        from ibot_mm.report import write_report

        print(write_report(runs, out, images, not no_pictures))
