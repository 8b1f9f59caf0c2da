# Copyright (c) ibot-mm contributors. Licensed under the Apache License 2.0.
"""Arms of an ablation: what each changes of one base config."""

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ibot_mm.compatibility import load_config
from ibot_mm.config_check.signatures import find_unknown
from ibot_mm.engine.alarms import COLLAPSES

PREPARED = 'prepared'  # in a delta, '{prepared}' is the file that the arm's preparation makes
LIKE = '_like_'
PREPARATIONS = dict(pretrain={'seed'}, fit_clusters={'num_patches', 'seed'})
_REFERENCE = re.compile(r'\{([\w.]+)\}')
_NAME = re.compile(r'[A-Za-z0-9][\w-]*')


@dataclass(frozen=True)
class Arm:
    """One variant of the training.

    Args:
        name: Also that of its folder.
        description: For the report.
        delta: What it changes, references resolved.
        cfg: The base with these changes; in it '{prepared}' stands for the prepared file.
        prepare: ``dict(type='pretrain', seed=...)``, a training of the base before this one, or
            ``dict(type='fit_clusters', num_patches=..., seed=...)``. Defaults to None.
    """

    name: str
    description: str
    delta: dict[str, Any]
    cfg: Config
    prepare: dict[str, Any] | None = None


@dataclass(frozen=True)
class Ablation:
    """A base config and the arms that are compared.

    Args:
        path: The ablation's config file.
        base_path: That of the base.
        base: The base with all options.
        options: Changes of the base, for all arms, as ``{'a.b': value}``.
        arms: By name.
        evaluation: ``epochs`` of linear probes, and ``scenes``, a folder of images with masks in
            ADE20K's layout. Defaults to the protocols' own.
    """

    path: Path
    base_path: Path
    base: Config
    options: dict[str, Any]
    arms: dict[str, Arm]
    evaluation: dict[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> str | None:
        """The arm that changes nothing, to which all are compared; None if it was left out."""
        return next((name for name, arm in self.arms.items() if not arm.delta), None)

    def key(self, arm: Arm) -> str:
        """Identify what an arm's numbers depend on beside the seed: training and evaluation."""
        before = self.base.to_dict() if (arm.prepare or {}).get('type') == 'pretrain' else None
        content = [arm.cfg.to_dict(), arm.prepare, before, self.evaluation]
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_ablation(
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    names: Sequence[str] | None = None,
) -> Ablation:
    """Read an ablation's config.

    It has ``base``, a path from its own folder; ``arms``, name -> ``dict(description=...,
    delta=..., prepare=...)``; and may have ``evaluation``. In a delta, ``'{model.neck}'`` is that
    part of the base, and a dict with ``_like_='model.neck'`` is a copy of it with the dict's other
    keys changed.

    Args:
        path: The file.
        options: Changes of the base, as ``{'a.b': value}``. Defaults to none.
        names: Arms to take. Defaults to all.

    Raises:
        ValueError: If the file does not say an ablation, an arm is unknown or named twice, or a
            delta refers to what the base does not have.
    """
    path = Path(path)
    content = Config.fromfile(path).to_dict()
    if not isinstance(content.get('base'), str) or not isinstance(content.get('arms'), dict):
        raise ValueError(f"{path}: an ablation needs base='...', a config, and arms=dict(...)")
    base_path = path.parent / content['base']
    base = load_config(base_path)
    base.merge_from_dict(dict(options or {}))
    if (base.get('default_hooks') or {}).get('alarm'):  # a collapse is a result
        base.default_hooks.alarm.setdefault('actions', {}).update(dict.fromkeys(COLLAPSES, 'end'))
    described = content['arms']
    _check_names(path, described, names)
    taken = described if names is None else {name: described[name] for name in names}
    arms = {name: _make_arm(name, given, base) for name, given in taken.items()}
    evaluation = dict(content.get('evaluation') or {})
    if faults := find_unknown(evaluation, {'epochs', 'scenes'}, 'evaluation'):
        raise ValueError(f'{path}: {faults[0]}')
    return Ablation(path, base_path, base, dict(options or {}), arms, evaluation)


def _check_names(path: Path, described: Mapping[str, Any], names: Sequence[str] | None) -> None:
    if wrong := [name for name in described if not _NAME.fullmatch(name)]:
        raise ValueError(f'{path}: {wrong[0]!r} cannot be an arm: use letters, digits, _ and -')
    references = [name for name, given in described.items() if not given.get('delta')]
    if len(references) != 1:
        raise ValueError(
            f'{path}: exactly one arm must have an empty delta, to which all are compared; these '
            f'have: {", ".join(references) or "none"}'
        )
    if names is None:
        return
    if faults := find_unknown(names, described, str(path)):
        raise ValueError(f'unknown arm: {faults[0]}')
    check_unique('arm', names)


def check_unique(kind: str, values: Sequence[Any]) -> None:
    """Refuse what is named twice.

    Raises:
        ValueError: If something is.
    """
    if twice := [value for index, value in enumerate(values) if value in values[:index]]:
        raise ValueError(f'{kind} {twice[0]} is named twice: name each once')


def _make_arm(name: str, given: Mapping[str, Any], base: Config) -> Arm:
    if faults := find_unknown(given, {'description', 'delta', 'prepare'}, f'arm {name}'):
        raise ValueError(faults[0])
    prepare = given.get('prepare')
    if prepare is not None:
        kind = prepare.get('type')
        if kind not in PREPARATIONS:
            raise ValueError(
                f'arm {name}: prepare.type must be one of {", ".join(PREPARATIONS)}, got {kind!r}'
            )
        keys = set(prepare) - {'type'}
        if faults := find_unknown(keys, PREPARATIONS[kind], f'arm {name}: prepare'):
            raise ValueError(faults[0])
    delta = _resolve(given.get('delta') or {}, base, f'arm {name}')
    cfg = copy.deepcopy(base)
    cfg.merge_from_dict(copy.deepcopy(delta))
    if (f"'{{{PREPARED}}}'" in str(delta)) != (prepare is not None):
        raise ValueError(
            f"arm {name}: '{{{PREPARED}}}' in its delta is the file that prepare=dict(...) makes: "
            'an arm has both or none of the two'
        )
    return Arm(name, given.get('description', ''), delta, cfg, prepare)


def _resolve(value: Any, base: Config, owner: str) -> Any:
    """Put parts of the base in the places of references."""
    if isinstance(value, Mapping):
        changed = {key: _resolve(part, base, owner) for key, part in value.items() if key != LIKE}
        return _look_up(value[LIKE], base, owner) | changed if LIKE in value else changed
    if isinstance(value, list | tuple):
        return type(value)(_resolve(part, base, owner) for part in value)
    match = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if match is None or match[1] == PREPARED:
        return value
    return _look_up(match[1], base, owner)


def _look_up(path: str, base: Config, owner: str) -> Any:
    node: Any = base.to_dict()
    for key in path.split('.'):
        if not isinstance(node, Mapping) or key not in node:
            raise ValueError(f"{owner}: the base does not have {path}: '{key}' is missing")
        node = node[key]
    return copy.deepcopy(node)


def fill_prepared(node: Any, file: str | Path) -> Any:
    """Return a config's content with the prepared file's path in its places."""
    if isinstance(node, Mapping):
        return {key: fill_prepared(value, file) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(fill_prepared(value, file) for value in node)
    return str(file) if node == f'{{{PREPARED}}}' else node
