# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Everything that is measured of one training, on frozen features."""

import logging
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log

from ibot_mm.compatibility import load_config
from ibot_mm.engine.checkpointing import read_checkpoint
from ibot_mm.engine.checkpointing.search import find_newest
from ibot_mm.evaluation import (
    NEIGHBORS,
    PROTOCOLS,
    FeatureExtractor,
    FeatureSettings,
    FrozenSplits,
    Loading,
    Options,
    best_of,
    cover,
    extract_splits,
    linear_settings,
    versions,
    write_results,
)
from ibot_mm.evaluation.patch_probe import count_classes, probe_patches, read_patches
from ibot_mm.evaluation.scenes import SPLITS
from ibot_mm.evaluation_request import Request, load_splits
from ibot_mm.frozen_network import FrozenNetwork, load_frozen_network
from ibot_mm.visualization import find_scalars, read_curves

from .check import read_plan
from .collapse import judge_collapse
from .tasks import RESULT

# What is measured, and its title in the report.
METRICS = dict(
    knn='k-NN top-1',
    linear='linear top-1, [CLS]',
    patch_mean='linear top-1, mean patch token',
    patches='linear mIoU, single patch tokens',
)
PATCH_MEAN = FeatureSettings(1, 'patch_mean')
SCENE_EPOCHS = 0.2  # of the epochs of other probes: an image has hundreds of patches


def measure_run(work_dir: str | Path) -> dict[str, Any]:
    """Measure a training of an ablation and write ``result.json`` into its folder.

    Args:
        work_dir: ``DIR/ARM/seed_N``.

    Returns:
        What the file holds.

    Raises:
        FileNotFoundError: If the folder is not of an ablation, or has no checkpoint.
    """
    work_dir = Path(work_dir)
    arm, seed = work_dir.parent.name, int(work_dir.name.removeprefix('seed_'))
    plan = read_plan(work_dir.parents[1])
    if plan is None:
        raise FileNotFoundError(f'{work_dir} is not DIR/ARM/seed_N of an ablation in DIR')
    checkpoint, _ = find_newest(work_dir)
    if checkpoint is None:
        raise FileNotFoundError(f'{work_dir} has no checkpoint: train first')
    config = work_dir.parent / 'config.py'
    cfg = load_config(config)
    result = dict(
        arm=arm,
        seed=seed,
        key=plan['keys'][arm],
        checkpoint=checkpoint.name,
        metrics=measure_checkpoint(checkpoint, config, cfg, plan['evaluation']),
        versions=versions(),
        commit=read_commit(),
        **describe_training(work_dir, cfg),
    )
    write_results(work_dir / RESULT, result)
    return result


def describe_training(work_dir: Path, cfg: Config) -> dict[str, Any]:
    """Return images seen, seconds in steps, collapse and final losses of a training."""
    curves, unit = read_curves(find_scalars(work_dir))
    checkpoint, _ = find_newest(work_dir)
    if checkpoint is None:
        raise FileNotFoundError(f'{work_dir} has no checkpoint: train first')
    # Not of the log, which has every so many iterations and seldom the last one.
    iterations = read_checkpoint(checkpoint)['meta']['iter']
    times = [value for _, value in curves['time']]
    losses = {n: curve[-1][1] for n, curve in curves.items() if n.startswith('loss')}
    return dict(
        images=iterations * cfg.train_dataloader.batch_size,
        seconds=iterations * sum(times) / len(times),
        collapse=judge_collapse(curves),
        unit=unit,
        losses=losses,
    )


def read_commit() -> str | None:
    """Return the commit of this package's code, with a mark where files differ from it."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    folder = Path(__file__).parent
    try:
        found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):  # not a checkout
        return None
    return found.stdout.strip()


def measure_checkpoint(
    checkpoint: Path, config: Path, cfg: Config, evaluation: Mapping[str, Any]
) -> dict[str, float]:
    """Measure one checkpoint.

    Args:
        checkpoint: Of the arm.
        config: File of the arm's config.
        cfg: The same, read.
        evaluation: See :class:`~ibot_mm.ablation.arms.Ablation`.

    Returns:
        Percent, by the names of ``METRICS``; ``patches`` only where there are scenes.
    """
    network = load_frozen_network(checkpoint, config=config)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    ks = cfg.val_evaluator.get('ks', Options().ks)
    options = Options(ks=tuple(ks), device=device)
    options = replace(options, epochs=evaluation.get('epochs', options.epochs))
    measured: dict[str, float] = {}
    with TemporaryDirectory(dir=checkpoint.parent, prefix='features_') as folder:
        request = Request(str(checkpoint), config=str(config))
        splits = _extract(network, load_splits(request), folder, options, cfg)
        measured['knn'] = best_of(PROTOCOLS['knn'](splits, options)).main
        measured['linear'] = best_of(PROTOCOLS['linear'](splits, options)).main
        of_patches = replace(splits, linear=PATCH_MEAN)
        measured['patch_mean'] = best_of(PROTOCOLS['linear'](of_patches, options)).main
    scenes = evaluation.get('scenes')
    if scenes and Path(scenes).is_dir():
        measured['patches'] = _measure_scenes(network, scenes, options)
    elif scenes:
        message = f'{scenes} is not there: patches are not measured one by one'
        print_log(message, 'current', logging.WARNING)
    return measured


def _extract(
    network: FrozenNetwork, datasets: Any, folder: str, options: Options, cfg: Config
) -> FrozenSplits:
    """Extract all that the protocols read by one pass."""
    loader = cfg.val_dataloader
    loading = Loading(loader.batch_size, loader.num_workers, options.device)
    if network.prepare is not None:
        loading = replace(loading, prepare=network.prepare)
    linear = linear_settings(network.backbone)
    settings = cover(NEIGHBORS, linear, PATCH_MEAN)
    extractor = FeatureExtractor(network.backbone, settings)
    return extract_splits(extractor, datasets, folder, linear, None, loading)


def _measure_scenes(network: FrozenNetwork, scenes: str, options: Options) -> float:
    extractor = FeatureExtractor(network.backbone).to(options.device)
    patch_size = network.backbone.patch_embed.projection.kernel_size[0]
    number = count_classes(scenes)
    prepare: Any = network.prepare
    train, held_out = (
        read_patches(scenes, split, extractor, prepare, patch_size, number) for split in SPLITS
    )
    options = replace(options, epochs=max(1, round(SCENE_EPOCHS * options.epochs)))
    return best_of(probe_patches(train, held_out, number, options)).main
