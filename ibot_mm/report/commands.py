# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Commands that give a training or a number again."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ibot_mm.evaluation_request import Request
from ibot_mm.pretraining import TOOLS

OF_REQUEST = (
    *('config', 'network', 'prefix', 'protocols', 'out', 'baselines', 'image_size', 'num_blocks'),
    *('pooling', 'dtype', 'batch_size', 'num_workers', 'attention'),
)
OF_OPTIONS = ('ks', 'epochs', 'shares', 'seed')


def tool(name: str) -> str:
    """Return the path of a tool: below a checkout, or where the installed package has it."""
    return f'tools/{name}' if TOOLS.is_symlink() else str(TOOLS / name)


def training_command(config: Path, folder: Path) -> str:
    """Return the command that trains by a config again, in a folder beside the first."""
    again = folder.with_name(f'{folder.name}_again')
    return shlex.join(['python', tool('train.py'), str(config), '--work-dir', str(again)])


def evaluation_command(results: Mapping[str, Any]) -> str:
    """Return the call of ``tools/evaluate.py`` that gives the same numbers.

    Args:
        results: Contents of ``results.json``.
    """
    from ibot_mm.evaluation import Options

    request, options = results['request'], results.get('options') or {}
    words = [results['checkpoint']]
    data = [request['data']] if request.get('data') else []
    data += [f'{name}={folder}' for name, folder in (request.get('folders') or {}).items()]
    words += ['--data', *data] if data else []
    for given, names, default in (
        (request, OF_REQUEST, Request('')),
        (options, OF_OPTIONS, Options()),
    ):
        for name in names:
            words += _flag(name, given.get(name), getattr(default, name))
    words += _pairs('--assume', request.get('assume') or {})
    tasks = options.get('tasks') or {}
    of_tasks = {f'{task}.{key}': v for task, of in tasks.items() for key, v in of.items()}
    words += _pairs('--task-options', of_tasks)
    return shlex.join(['python', tool('evaluate.py'), *map(str, words)])


def _flag(name: str, value: Any, default: Any) -> list[Any]:
    if isinstance(default, tuple):
        default = list(default)
    if value is None or value == default:
        return []
    flag = '--' + name.replace('_', '-')
    return [flag] if value is True else [flag, *(value if isinstance(value, list) else [value])]


def _pairs(flag: str, values: Mapping[str, Any]) -> list[str]:
    return [flag, *(f'{key}={value}' for key, value in values.items())] if values else []
