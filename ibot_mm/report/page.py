# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""The page: one file that needs no network."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ibot_mm.version import __version__

from .results import number, table_of
from .run import Run, read_run

TEMPLATE = Path(__file__).with_name('page.html')


def write_report(
    folders: Sequence[str | Path],
    out: str | Path = 'report.html',
    images: str | Path | None = None,
    with_pictures: bool = True,
) -> Path:
    """Write one self-contained HTML file about one training or several, side by side.

    Args:
        folders: Work directories.
        out: File to write; one that is there is replaced.
        images: Folder of images in which the networks are shown. Defaults to None, those of each
            run's data.
        with_pictures: Whether to draw what the networks see. Defaults to True.

    Returns:
        The file.

    Raises:
        FileNotFoundError: If a folder has no logs or no config, or ``images`` is not there.
        ValueError: If a folder is named twice, or ``out`` is not an HTML file.
    """
    import jinja2

    out = Path(out)
    if out.suffix not in ('.html', '.htm'):
        raise ValueError(f'a report is an .html file, got {out}')
    paths = [Path(folder) for folder in folders]
    if twice := [path for i, path in enumerate(paths) if path in paths[:i]]:
        raise ValueError(f'{twice[0]} is named twice')
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f'{images} is not a folder of images')
    runs = [read_run(path, images, with_pictures) for path in paths]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters['picture'] = lambda png: b64encode(png).decode()
    page = environment.from_string(TEMPLATE.read_text()).render(
        runs=runs,
        comparison=_compare(runs),
        rows_of=table_of,
        number=number,
        date=f'{datetime.now():%Y-%m-%d}',
        version=__version__,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f'.{out.name}.tmp')
    temporary.write_text(page)
    temporary.replace(out)
    return out


def _compare(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return quantity -> last value of each run, where there are several."""
    if len(runs) < 2:
        return {}
    names = sorted({name for run in runs for name in run.metrics})
    return {
        name: [number(run.metrics[name][0]) if name in run.metrics else '' for run in runs]
        for name in names
    }
