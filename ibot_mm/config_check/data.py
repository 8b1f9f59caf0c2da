# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Data loaders, data sets and transforms of a config, and whether there is enough data."""

import inspect
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS, TRANSFORMS
from torch.utils.data import DataLoader

from ibot_mm.datasets.named_steps import list_steps

from .components import Component, build
from .pixels import LOOKED_AT, check_pixels
from .signatures import find_unknown

READ_BY_RUNNER = {
    *('dataset', 'sampler', 'batch_sampler', 'collate_fn', 'worker_init_fn'),
    *('num_batch_per_epoch', 'disable_subprocess_warning', '_scope_'),
}


def check_loader(path: str, cfg: Mapping[str, Any], with_data: bool) -> tuple[dict, list[str]]:
    """Check a data loader and all that belongs to it.

    Args:
        path: Its key in the config.
        cfg: The loader's config.
        with_data: Whether the data must be there.

    Returns:
        The transforms of the data set by their path, and the faults.
    """
    arguments = set(inspect.signature(DataLoader).parameters) | READ_BY_RUNNER
    faults = [f'{path}: {fault}' for fault in find_unknown(cfg, arguments, 'a data loader')]
    faults += [f'{path}.{fault}' for fault in _check_numbers(cfg)]
    for key, given in (
        ('sampler', {'dataset', 'seed'}),
        ('batch_sampler', {'sampler', 'batch_size'}),
    ):
        if cfg.get(key) is not None:
            faults += Component(f'{path}.{key}', cfg[key], DATA_SAMPLERS, given=given).check()
        elif key == 'sampler':
            faults.append(f"{path}: has no sampler, such as dict(type='DefaultSampler')")
    collate = cfg.get('collate_fn')
    if isinstance(collate, Mapping):
        given = {'data_batch', 'samples', 'data'}
        part = Component(f'{path}.collate_fn', collate, FUNCTIONS, given=given, needs_all=False)
        faults += part.check()
    if not isinstance(cfg.get('dataset'), Mapping):
        return {}, [*faults, f'{path}: has no dataset']
    transforms: dict[str, Any] = {}
    for place, dataset in _walk(f'{path}.dataset', cfg['dataset']):
        found, more = _check_dataset(place, dataset, with_data)
        transforms |= found
        faults += more
    if with_data and not faults and path == 'train_dataloader':
        faults += _check_amount(path, cfg)
    return transforms, faults


def _check_numbers(cfg: Mapping[str, Any]) -> Iterator[str]:
    workers = cfg.get('num_workers', 0)
    for name, low in (('batch_size', 1), ('num_workers', 0), ('prefetch_factor', 1)):
        value = cfg.get(name)
        if value is not None and not (type(value) is int and value >= low):
            yield f'{name}: must be a whole number of at least {low}, got {value!r}'
    if workers == 0 and cfg.get('persistent_workers'):
        yield 'persistent_workers: needs workers, but num_workers is 0: set it to False'
    if workers == 0 and cfg.get('prefetch_factor') is not None:
        yield 'prefetch_factor: needs workers, but num_workers is 0: leave it out'
    if 'batch_size' not in cfg and 'batch_sampler' not in cfg:
        yield 'batch_size: is missing'


def _walk(path: str, cfg: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a data set's config, and those of the data sets that it wraps."""
    yield path, cfg
    for key, value in cfg.items():
        if isinstance(value, Mapping) and key in ('dataset', 'bank', 'query') and 'type' in value:
            yield from _walk(f'{path}.{key}', value)
        elif key == 'datasets' and isinstance(value, list | tuple):
            for index, part in enumerate(value):
                yield from _walk(f'{path}.{key}.{index}', part)


def _check_dataset(path: str, cfg: Mapping[str, Any], with_data: bool) -> tuple[dict, list[str]]:
    component = Component(path, cfg, DATASETS)
    faults = component.check()
    transforms: dict[str, Any] = {}
    if isinstance(cfg.get('pipeline'), Mapping):
        faults += build(f'{path}.pipeline', list_steps, cfg['pipeline'])[1]
    for place, step in walk_steps(f'{path}.pipeline', cfg.get('pipeline')):
        part = Component(place, step, TRANSFORMS)
        wrong = part.check()
        if not wrong and isinstance(step, Mapping):
            transforms[place], wrong = build(place, part.build)
        faults += wrong
    if faults or not with_data or any(key in cfg for key in ('dataset', 'datasets', 'bank')):
        return transforms, faults
    bare = {key: value for key, value in cfg.items() if key != 'pipeline'}
    lazy = Component(path, dict(bare, lazy_init=True, pipeline=[]), DATASETS)
    if lazy.check():  # a data set of another kind
        return transforms, []
    dataset, faults = build(path, lazy.build)
    faults = faults or [f'{path}: {fault}' for fault in _missing_files(dataset)]
    if not faults and hasattr(dataset, 'first_images'):
        for place, transform in transforms.items():
            if hasattr(transform, 'pixel_range'):
                images = dataset.first_images(LOOKED_AT)
                faults += check_pixels(place, transform, images)
    return transforms, faults


def walk_steps(path: str, pipeline: Any) -> Iterator[tuple[str, Any]]:
    """Yield the steps of a pipeline, a list or a dict of named ones, with their places."""
    if isinstance(pipeline, Mapping):
        named = {k: step for k, step in pipeline.items() if k not in ('_scope_', 'order')}
        yield from ((f'{path}.{name}', step) for name, step in named.items() if step is not None)
    elif isinstance(pipeline, list | tuple):
        yield from ((f'{path}.{index}', step) for index, step in enumerate(pipeline))


def _missing_files(dataset: Any) -> Iterator[str]:
    """Where a data set that has not read anything yet will find nothing."""
    if hasattr(dataset, 'has_images'):
        fault = build('', dataset.has_images, 1)[1]
        yield from (text.removeprefix(': ') for text in fault)
        return
    annotations = getattr(dataset, 'ann_file', '')
    prefix = getattr(dataset, 'data_prefix', None)
    folders = prefix.values() if isinstance(prefix, Mapping) else []
    for name in (annotations, *folders):
        if isinstance(name, str) and name and '://' not in name and not Path(name).exists():
            yield f'there is no {name}'


def _check_amount(path: str, cfg: Mapping[str, Any]) -> Iterator[str]:
    """Whether there is one batch for every process, where incomplete ones are dropped."""
    batch_sampler = cfg.get('batch_sampler') or {}
    drops = cfg.get('drop_last') or batch_sampler.get('drop_last')
    processes = max(get_world_size(), int(os.environ.get('WORLD_SIZE', 1)))
    needed = int(cfg.get('batch_size', 1)) * processes
    if not drops or 'pipeline' not in cfg['dataset']:
        return
    bare = dict(cfg['dataset'], lazy_init=True, pipeline=[])
    dataset, _ = build(path, Component(path, bare, DATASETS).build)
    if hasattr(dataset, 'has_images') and not dataset.has_images(needed):
        yield (
            f'{path}.batch_size: {cfg["batch_size"]} images in each of {processes} processes are '
            f'more than {cfg["dataset"].get("data_root", "the data set")} holds, and drop_last '
            'leaves no batch: lower batch_size or add images'
        )
