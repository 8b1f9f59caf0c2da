# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""A whole config as its difference from the nearest config of the project."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

CONFIGS = Path(__file__).parents[1] / '.mim/configs'
# What a run writes itself, or says where, not what, it was; and names that configs keep for reuse.
OWN = (
    *('work_dir', 'launcher', 'resume', 'load_from', 'custom_imports', 'env_cfg', 'log_level'),
    *('data_root', 'train_pipeline', 'val_pipeline', 'test_pipeline'),
)


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
    for name, base in _bases(_room(cfg)).items():
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
    return {prefix: _lists(node)}


def _lists(value: Any) -> Any:
    """Make tuples lists, on all levels: a written config has lists where its base had tuples."""
    return [_lists(one) for one in value] if isinstance(value, list | tuple) else value


def _room(cfg: Config) -> str:
    """Return the folder of configs that a config belongs to."""
    if cfg.model.get('type') == 'ibot_mm.IBOT':
        return 'pretrain'
    return dict(mmdet='det', mmseg='seg').get(cfg.get('default_scope'), 'cls')


@cache
def _bases(room: str) -> dict[str, dict[str, Any]]:
    paths = sorted((CONFIGS / room).glob('*.py'))
    return {f'{room}/{path.name}': flatten(Config.fromfile(path).to_dict()) for path in paths}
