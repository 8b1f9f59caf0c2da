# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Writing the whole demo data below one folder."""

import functools
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from .compose import Composer, Scene
from .demo_settings import SPLITS, DemoSettings
from .writers import AdeWriter, CocoWriter, ImageNetWriter

# What was drawn, and the sign that a folder was written by this module.
MANIFEST = 'demo_data.json'
SETS = ('imagenet', 'coco', 'ade')

Map = Callable[[Callable[[int], Scene], range], Iterator[Scene]]  # keeps the order
get_composer = functools.cache(Composer)  # one for each process


def make_demo_data(
    out: str | Path, settings: DemoSettings, overwrite: bool = False, num_workers: int = 1
) -> Path:
    """Compose the demo data and write it in three formats.

    Everything is written to a folder beside ``out`` that is renamed when it is complete: a run
    that was interrupted leaves no ``out`` that looks complete. The same settings and package
    versions give the same bytes.

    Args:
        out: Folder for ``imagenet/``, ``coco/``, ``ade/`` and ``demo_data.json``, which lists
            settings, package versions, and what each split was drawn from.
        settings: Parameters of the demo data.
        overwrite: Replace ``out`` if it holds earlier demo data. Defaults to False.
        num_workers: Processes that compose images; with one it is done here. The bytes are the
            same for any number. Defaults to 1.

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
    with _processes(num_workers) as run:
        for split in SPLITS:
            manifest[split] = _write_split(partial, settings, split, run)
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


@contextmanager
def _processes(number: int) -> Iterator[Map]:
    """Give the function that composes images, as ``map`` does, in so many processes."""
    if number <= 1:
        yield map
        return
    context = multiprocessing.get_context('spawn')  # forks would share OpenCV's threads
    with ProcessPoolExecutor(number, context) as pool:
        try:
            yield functools.partial(pool.map, chunksize=16)
        finally:
            pool.shutdown(cancel_futures=True)


def compose(settings: DemoSettings, split: str, name: str, index: int) -> Scene:
    """Compose one image of a set, which depends on no other.

    Args:
        settings: Parameters of the demo data.
        split: 'train' or 'val'.
        name: Of the set, 'imagenet', 'coco' or 'ade'.
        index: The image's number.

    Returns:
        A classification image of class ``index % 10``, or a scene.
    """
    # A stream of its own for each image: it is the same however many there are.
    random = np.random.default_rng([settings.seed, SETS.index(name), SPLITS.index(split), index])
    composer = get_composer(settings, split)
    if name == 'imagenet':
        return composer.compose_class(index % 10, random)
    return composer.compose_scene(random)


def _write_split(root: Path, settings: DemoSettings, split: str, run: Map) -> dict:
    """Write one split of all three sets; returns what it was drawn from."""
    drawn: set[int] = set()
    quality = settings.jpeg_quality

    def scenes(name: str, kind: str) -> Iterator[tuple[int, Scene]]:
        number = getattr(settings, f'num_{kind}{split}')
        composed = run(functools.partial(compose, settings, split, name), range(number))
        shown = track(composed, total=number, description=f'{name:>8} {split:5}')
        for index, scene in enumerate(shown):
            drawn.update(source for instance in scene.instances for source in instance.sources)
            yield index, scene

    folders = ImageNetWriter(root / 'imagenet', split, quality)
    for index, scene in scenes('imagenet', ''):
        folders.add(index, scene, index % 10)

    coco = CocoWriter(root / 'coco', split, quality)
    for index, scene in scenes('coco', 'scenes_'):
        coco.add(index, scene)
    coco.close()

    ade = AdeWriter(root / 'ade', split, quality)
    for index, scene in scenes('ade', 'scenes_'):
        ade.add(index, scene)

    sources = get_composer(settings, split).photographs
    photographs = {photograph.name: photograph.columns for photograph in sources}
    return dict(digits=sorted(drawn), photograph_columns=photographs)
