# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing the whole demo data below one folder."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from .compose import Composer, Instance
from .demo_settings import SPLITS, DemoSettings
from .writers import AdeWriter, CocoWriter, ImageNetWriter

# What was drawn, and the sign that a folder was written by this module.
MANIFEST = 'demo_data.json'
SETS = ('imagenet', 'coco', 'ade')


def make_demo_data(out: str | Path, settings: DemoSettings, overwrite: bool = False) -> Path:
    """Compose the demo data and write it in three formats.

    Everything is written to a folder beside ``out`` that is renamed when it is complete: a run
    that was interrupted leaves no ``out`` that looks complete. The same settings and package
    versions give the same bytes.

    Args:
        out: Folder for ``imagenet/``, ``coco/``, ``ade/`` and ``demo_data.json``, which lists
            settings, package versions, and what each split was drawn from.
        settings: Parameters of the demo data.
        overwrite: Replace ``out`` if it holds earlier demo data.

    Returns:
        The folder, as an absolute path.

    Raises:
        FileExistsError: If ``out`` is not empty and may not be replaced.
    """
    root = Path(out).expanduser().resolve()
    _check_root(root, overwrite)
    partial = root.with_name(f'{root.name}.partial')
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    manifest = dict(settings=asdict(settings), packages=_versions())
    for split in SPLITS:
        manifest[split] = _write_split(partial, settings, split)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
    if root.exists():
        shutil.rmtree(root)
    partial.rename(root)
    return root


def _check_root(root: Path, overwrite: bool) -> None:
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return
    if not (root / MANIFEST).is_file():
        raise FileExistsError(
            f'{root} exists and does not hold demo data (it has no {MANIFEST}), so it is left '
            'alone: choose a new or empty folder'
        )
    if not overwrite:
        raise FileExistsError(
            f'{root} holds demo data already: use it as it is, choose another folder, or replace '
            'it with --overwrite'
        )


def _versions() -> dict[str, str]:
    """Versions of the packages that the bytes depend on."""
    packages = ('numpy', 'scikit-image', 'scikit-learn')
    return {package: version(package) for package in packages} | {'cv2': cv2.__version__}


def _write_split(root: Path, settings: DemoSettings, split: str) -> dict:
    """Write one split of all three sets; returns what it was drawn from."""
    composer = Composer(settings, split)
    drawn: set[int] = set()
    quality = settings.jpeg_quality

    def count(kind: str) -> int:
        return getattr(settings, f'num_{kind}{split}')

    def draws(name: str, number: int) -> Iterator[tuple[int, np.random.Generator]]:
        # A stream of its own for each image: no image depends on how many come before it.
        for index in track(range(number), description=f'{name:>8} {split:5}'):
            stream = [settings.seed, SETS.index(name), SPLITS.index(split), index]
            yield index, np.random.default_rng(stream)

    def note(instances: list[Instance]) -> None:
        drawn.update(source for instance in instances for source in instance.sources)

    folders = ImageNetWriter(root / 'imagenet', split, quality)
    for index, random in draws('imagenet', count('')):
        scene = composer.compose_class(index % 10, random)
        folders.add(index, scene, index % 10)
        note(scene.instances)

    coco = CocoWriter(root / 'coco', split, quality)
    for index, random in draws('coco', count('scenes_')):
        scene = composer.compose_scene(random)
        coco.add(index, scene)
        note(scene.instances)
    coco.close()

    ade = AdeWriter(root / 'ade', split, quality)
    for index, random in draws('ade', count('scenes_')):
        scene = composer.compose_scene(random)
        ade.add(index, scene)
        note(scene.instances)

    photographs = {photograph.name: photograph.columns for photograph in composer.photographs}
    return dict(digits=sorted(drawn), photograph_columns=photographs)
