# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Sections of a config that are read, not built, and hooks, loops, metrics and schedules."""

import copy
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.optim import AmpOptimWrapper, OptimWrapper, build_optim_wrapper
from mmengine.registry import (
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    MODEL_WRAPPERS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    VISUALIZERS,
    WEIGHT_INITIALIZERS,
)
from mmengine.runner import Runner

from ibot_mm.engine.sharding import ELEMENTWISE, is_sharding
from ibot_mm.functional.ranges import check_ranges

from .components import Component, build
from .signatures import find_unknown

KEYS = {
    'auto_scale_lr': {'base_batch_size', 'enable'},
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'env_cfg.mp_cfg': {'mp_start_method', 'opencv_num_threads'},
    'randomness': set(inspect.signature(Runner.set_randomness).parameters) - {'self'},
}
# Where hooks call with the keywords that they keep, long after they were built.
HANDS_ON = {CheckpointHook: Runner.save_checkpoint}
LENGTHS = ('max_epochs', 'max_iters', 'val_interval', 'val_begin')


def check_read_sections(cfg: Config, with_data: bool) -> Iterator[str]:
    """Check keys and numbers of the sections that mmengine reads itself."""
    for path, known in KEYS.items():
        node: Any = cfg.to_dict()
        for key in path.split('.'):
            node = (node.get(key) if isinstance(node, Mapping) else None) or {}
        if isinstance(node, Mapping):
            keys = [key for key in node if key != '_scope_']
            yield from (f'{path}: {fault}' for fault in find_unknown(keys, known, path))
        else:
            yield f'{path}: must be a dict, got {node!r}'
    scale = cfg.get('auto_scale_lr')
    if isinstance(scale, Mapping):
        base = scale.get('base_batch_size')
        if scale.get('enable') and base is None:
            yield 'auto_scale_lr: is enabled and lacks base_batch_size, the images a step of its lr'
        ranges = {'int [1, inf)': dict(base_batch_size=base)}
        yield from build('auto_scale_lr', check_ranges, 'it', ranges)[1]
    seed = {'int [0, inf)': dict(seed=(cfg.get('randomness') or {}).get('seed'))}
    yield from build('randomness', check_ranges, 'it', seed)[1]
    start = cfg.get('load_from')
    if with_data and isinstance(start, str) and '://' not in start and '::' not in start:
        if not Path(start).is_file():
            yield f'load_from: there is no file {start}'


def check_loops(cfg: Config) -> Iterator[str]:
    """Check loops, and that each has all that it needs."""
    loops = dict(train='EpochBasedTrainLoop', val='ValLoop', test='TestLoop')
    for name, default in loops.items():
        path, loop = f'{name}_cfg', cfg.get(f'{name}_cfg')
        if loop is None:
            continue
        if not isinstance(loop, Mapping):
            yield f'{path}: must be a dict, got {loop!r}'
            continue
        kind = default
        if 'by_epoch' in loop and 'type' not in loop:
            kind = default if loop['by_epoch'] else 'IterBasedTrainLoop'
        given = {'runner', 'dataloader', 'evaluator'}
        part = Component(path, loop, LOOPS, kind, given, also_takes={'by_epoch'})
        yield from part.check()
        lengths = {key: loop.get(key) for key in LENGTHS}
        yield from build(path, check_ranges, 'it', {'int [1, inf)': lengths})[1]
        end = loop.get('max_epochs', loop.get('max_iters'))
        begin = loop.get('val_begin')
        if isinstance(begin, int) and isinstance(end, int) and begin > end:
            yield f'{path}.val_begin: {begin} is after the end, {end}: there is no validation'
        needs = [f'{name}_dataloader']
        needs += ['optim_wrapper'] if name == 'train' else [f'{name}_evaluator']
        yield from (f'{path}: needs {key}, which is missing' for key in needs if not cfg.get(key))


def check_hooks(cfg: Config) -> tuple[dict[str, Any], list[str]]:
    """Check and build hooks; returns them by their places, and the faults."""
    faults: list[str] = []
    hooks: dict[str, Any] = {}
    default, custom = cfg.get('default_hooks') or {}, cfg.get('custom_hooks') or []
    if not isinstance(default, Mapping) or not isinstance(custom, list | tuple):
        return {}, ['default_hooks must be a dict of hooks and custom_hooks a list of them']
    named = {f'default_hooks.{name}': hook for name, hook in default.items() if name != '_scope_'}
    named |= {f'custom_hooks.{index}': hook for index, hook in enumerate(custom)}
    for path, hook in named.items():
        if hook is None and path.startswith('default_hooks.'):
            continue  # switched off
        part = Component(path, hook, HOOKS, also_takes={'priority'}, hands_on=HANDS_ON)
        wrong = part.check()
        if not wrong and isinstance(hook, Mapping):
            bare = {key: value for key, value in hook.items() if key != 'priority'}
            hooks[path], wrong = build(path, Component(path, bare, HOOKS).build)
            wrong = [fault for fault in wrong if 'get_current_instance' not in fault]  # not yet
            if hook.get('interval') == 0:
                wrong.append(f'{path}.interval: must not be 0 (-1 switches it off)')
        faults += wrong
    saver = hooks.get('default_hooks.checkpoint')
    if getattr(saver, 'save_best', None) and not cfg.get('val_cfg') and cfg.get('val_cfg') != {}:
        faults.append('default_hooks.checkpoint.save_best: nothing is validated: set val_cfg')
    return hooks, faults


def check_others(cfg: Config, with_data: bool) -> Iterator[str]:
    """Check metrics, visualizer, log processor, shards and the initializers of weights."""
    for name in ('val_evaluator', 'test_evaluator'):
        metrics = cfg.get(name) or []
        for index, metric in enumerate([metrics] if isinstance(metrics, Mapping) else metrics):
            path = name if isinstance(metrics, Mapping) else f'{name}.{index}'
            if isinstance(metric, Mapping) and 'metrics' in metric:
                continue  # an evaluator of its own
            part = Component(path, metric, METRICS)
            faults = part.check()
            if (
                not faults
                and isinstance(metric, Mapping)
                and str(metric.get('type')).startswith('ibot_mm.')
            ):
                faults = build(path, part.build)[1]
            yield from faults
    if isinstance(cfg.get('visualizer'), Mapping):
        yield from Component('visualizer', cfg.visualizer, VISUALIZERS).check()
    if isinstance(cfg.get('log_processor'), Mapping):
        yield from Component(
            'log_processor', cfg.log_processor, LOG_PROCESSORS, 'LogProcessor'
        ).check()
    if is_sharding(cfg):
        yield from _check_shards(cfg)
    for path, initializer in _initializers(cfg.get('model'), 'model'):
        takes = {'override', 'layer', 'bias', '_delete_'}
        yield from Component(path, initializer, WEIGHT_INITIALIZERS, also_takes=takes).check()
        file = initializer.get('checkpoint') if isinstance(initializer, Mapping) else None
        if with_data and isinstance(file, str) and ':' not in file and not Path(file).is_file():
            yield f'{path}.checkpoint: there is no file {file}'


def _check_shards(cfg: Config) -> Iterator[str]:
    wrapper, optimizer = cfg.model_wrapper_cfg, (cfg.get('optim_wrapper') or {}).get('optimizer')
    yield from Component('model_wrapper_cfg', wrapper, MODEL_WRAPPERS, given={'module'}).check()
    kind = (optimizer or {}).get('type')
    if isinstance(kind, str) and kind not in ELEMENTWISE:
        yield (
            f'optim_wrapper.optimizer.type: {kind} may need whole weights, and model_wrapper_cfg '
            f'shares them between processes: take one of {", ".join(ELEMENTWISE)}'
        )
    hook = (cfg.get('default_hooks') or {}).get('checkpoint', dict(type='CheckpointHook'))
    if isinstance(hook, Mapping) and hook.get('type') == 'CheckpointHook':
        yield (
            "default_hooks.checkpoint.type: mmengine's hook saves the part of one process only, "
            "where model_wrapper_cfg shares the weights: set it to 'ibot_mm.CheckpointHook'"
        )


def _initializers(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    children: Any = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list | tuple):
        children = enumerate(node)
    for key, child in children:
        if key == 'init_cfg' and child:
            many = isinstance(child, list | tuple)
            for index, part in enumerate(child if many else [child]):
                yield f'{path}.init_cfg{f".{index}" if many else ""}', part
        else:
            yield from _initializers(child, f'{path}.{key}')


def check_optimization(cfg: Config, model: Any) -> Iterator[str]:
    """Check the optimizer with its wrapper and constructor, and the schedules."""
    wrapper = cfg.get('optim_wrapper')
    if (
        not isinstance(wrapper, Mapping)
        or wrapper.get('constructor') is None
        and 'optimizer' not in wrapper
    ):
        return
    outer = {'constructor', 'paramwise_cfg'}
    kind = wrapper.get('type', 'OptimWrapper')
    part = Component('optim_wrapper', wrapper, OPTIM_WRAPPERS, 'OptimWrapper', also_takes=outer)
    faults = part.check()
    if wrapper.get('constructor') is not None:
        named = dict(type=wrapper['constructor'])
        given = {'optim_wrapper_cfg', 'paramwise_cfg'}
        path = 'optim_wrapper.constructor'
        faults += Component(path, named, OPTIM_WRAPPER_CONSTRUCTORS, given=given).check()
    optimizer = wrapper.get('optimizer')
    if isinstance(optimizer, Mapping):
        path = 'optim_wrapper.optimizer'
        faults += Component(path, optimizer, OPTIMIZERS, given={'params', 'model'}).check()
    yield from faults
    if faults:
        return
    if model is not None:
        bare = copy.deepcopy(dict(wrapper))
        bare['optimizer'] = dict(bare.get('optimizer') or {})
        bare['optimizer'].pop('fused', None)  # needs tensors with values
        target = OPTIM_WRAPPERS.get(kind) if isinstance(kind, str) else kind
        if target is AmpOptimWrapper:  # needs a GPU
            bare = {key: bare[key] for key in ('optimizer', 'clip_grad', *outer) if key in bare}
            bare['type'] = OptimWrapper
        if isinstance(optimizer, Mapping):
            yield from build('optim_wrapper', build_optim_wrapper, model, bare)[1]
    yield from _check_schedules(cfg, optimizer)


def _check_schedules(cfg: Config, optimizer: Any) -> Iterator[str]:
    schedules, loop = cfg.get('param_scheduler') or [], cfg.get('train_cfg') or {}
    if not isinstance(schedules, list | tuple | Mapping):
        yield f'param_scheduler: must be a dict or a list of dicts, got {schedules!r}'
        return
    numbers = {
        key: value
        for key, value in (optimizer or {}).items()
        if key in ('lr', 'weight_decay', 'momentum') and isinstance(value, int | float)
    }
    for index, schedule in enumerate([schedules] if isinstance(schedules, Mapping) else schedules):
        path = 'param_scheduler' + ('' if isinstance(schedules, Mapping) else f'.{index}')
        takes = {'convert_to_iter_based', 'by_epoch', 'begin', 'end'}
        given = {'optimizer', 'param_name'}
        part = Component(path, schedule, PARAM_SCHEDULERS, given=given, also_takes=takes)
        faults = part.check()
        if not faults and isinstance(schedule, Mapping):
            length = (
                loop.get('max_epochs') if schedule.get('by_epoch', True) else loop.get('max_iters')
            )
            full = dict(
                schedule, **({} if length is None else dict(end=schedule.get('end', length)))
            )
            dummy = torch.optim.SGD([dict(params=[torch.zeros(1)], **numbers)], lr=1.0)
            try:
                Component(path, full, PARAM_SCHEDULERS).build(optimizer=dummy, epoch_length=1000)
            except ValueError:
                faults = build(
                    path,
                    lambda part, dummy: part.build(optimizer=dummy, epoch_length=1000),
                    Component(path, full, PARAM_SCHEDULERS),
                    dummy,
                )[1]
            except Exception:  # of a schedule that needs more of the runner
                faults = []
        yield from faults


def check_unreachable(cfg: Config, hooks: Mapping[str, Any]) -> Iterator[str]:
    """Check for options that another one makes meaningless."""
    head = (cfg.get('model') or {}).get('head')
    setters = [path for path, hook in hooks.items() if hasattr(hook, 'patch_temperature')]
    for key, name in (
        ('teacher_temperature', 'temperature'),
        ('teacher_patch_temperature', 'patch_temperature'),
    ):
        if setters and isinstance(head, Mapping) and key in head:
            hook = setters[0]
            yield f'model.head.{key}: has no effect, since {hook} sets it: set {hook}.{name}'
