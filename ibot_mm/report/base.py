# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A whole config as its difference from the nearest config of the project."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / '.mim/configs'
ROOMS = ('pretrain', 'cls', 'det', 'seg')
# What a run writes itself, or says where, not what, it was.
OWN = ('work_dir', 'launcher', 'resume', 'load_from', 'custom_imports', 'env_cfg', 'log_level')


def nearest_base(cfg: Config) -> tuple[str, dict[str, tuple[Any, Any]]]:
    """Find the config of the project from which a config differs least.

    Args:
        cfg: Whole, as a run writes it.

    Returns:
        Its name, such as 'pretrain/ibot_vits16.py', and key -> its value and that of ``cfg``, with
        'absent' where one has none.

    Raises:
        FileNotFoundError: If the package came without its configs.
    """
    flat = flatten(cfg.to_dict())
    best: tuple[str, dict[str, tuple[Any, Any]]] | None = None
    for name, base in _bases().items():
        keys = [key for key in {**base, **flat} if key.split('.')[0] not in OWN]
        differences = {
            key: (base.get(key, 'absent'), flat.get(key, 'absent'))
            for key in keys
            if base.get(key, 'absent') != flat.get(key, 'absent')
        }
        if best is None or len(differences) < len(best[1]):
            best = name, differences
    if best is None:
        raise FileNotFoundError(f'{CONFIGS} has no configs: install the package again')
    return best


def flatten(node: Any, prefix: str = '') -> dict[str, Any]:
    """Make nested dicts one, keys joined by dots; lists and tuples are one value each."""
    if isinstance(node, Mapping):
        flat: dict[str, Any] = {}
        for key, value in node.items():
            if key not in ('_scope_', '_delete_'):
                flat |= flatten(value, f'{prefix}.{key}' if prefix else str(key))
        return flat
    return {prefix: list(node) if isinstance(node, tuple) else node}


@cache
def _bases() -> dict[str, dict[str, Any]]:
    found = {}
    for room in ROOMS:
        for path in sorted((CONFIGS / room).glob('*.py')):
            try:
                cfg = Config.fromfile(path)
            except (ImportError, OSError):  # of mmdet or mmseg, where they are not installed
                continue
            found[f'{room}/{path.name}'] = flatten(cfg.to_dict())
    return found
