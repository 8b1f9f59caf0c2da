# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""What is wrong with an ablation, before time is spent."""

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from ibot_mm.config_check import check_config

from .arms import Ablation

PLAN = 'ablation.json'


def check_ablation(ablation: Ablation, out: str | Path) -> None:
    """Check data and base, keys and values of each arm, its number of images, and the folder.

    Raises:
        ValueError: With the faults of the first that has some.
    """
    _check_folder(ablation, Path(out))
    _refuse(str(ablation.base_path), check_config(ablation.base, ablation.options))
    expected = num_images_seen(ablation.base)
    for arm in ablation.arms.values():
        # What is prepared is not there yet.
        paths = dict.fromkeys(_paths(arm.delta))
        faults = check_config(arm.cfg, paths, with_data=False)
        faults = [f.replace('set on the command line', 'set by the delta') for f in faults]
        _refuse(f'arm {arm.name}', faults)
        seen = num_images_seen(arm.cfg)
        if seen != expected:
            raise ValueError(
                f'arm {arm.name} sees {seen} images and the base {expected}: arms must not change '
                'max_epochs, max_iters, batch size or data set so that the numbers differ'
            )


def num_images_seen(cfg: Config) -> int:
    """Count the images of a training in one process, each as often as it is presented."""
    loader_cfg = copy.deepcopy(cfg.train_dataloader)
    loader_cfg.dataset.pipeline = []  # which decides no number
    loader_cfg.num_workers = 0
    loader_cfg.persistent_workers = False
    loader_cfg.pop('prefetch_factor', None)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        loader = Runner.build_dataloader(loader_cfg, seed=0)
    batch_size = loader_cfg.batch_size
    if 'max_epochs' not in cfg.train_cfg:
        return int(cfg.train_cfg.max_iters * batch_size)
    per_epoch = min(len(loader) * batch_size, len(loader.sampler))
    return int(cfg.train_cfg.max_epochs * per_epoch)


def read_plan(out: str | Path) -> dict[str, Any] | None:
    """Read what a folder's ablation is, None if there is none."""
    path = Path(out) / PLAN
    return json.loads(path.read_text()) if path.is_file() else None


def _check_folder(ablation: Ablation, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f'{out} is a file: --out is the folder of the ablation')
    keys = (read_plan(out) or {}).get('keys', {})
    other = [n for n, arm in ablation.arms.items() if keys.get(n) not in (None, ablation.key(arm))]
    if other:
        raise ValueError(
            f'{out} holds an ablation of another config: arm {other[0]} was trained or evaluated '
            'by other settings. Name another folder, or remove this one'
        )


def _refuse(owner: str, faults: list[str]) -> None:
    if faults:
        number = f'{len(faults)} fault{"s" if len(faults) > 1 else ""}'
        raise ValueError('\n  '.join([f'{owner} has {number}:', *faults]))


def _paths(node: Mapping[str, Any], path: str = '') -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _paths(value, f'{path}{key}.')
        else:
            yield f'{path}{key}'
